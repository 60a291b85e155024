from __future__ import annotations

import itertools
import warnings

import cv2
import numpy as np
import onnxruntime
import pytest
from insightface.app.common import Face

from pipelines.faces.align import arcface_transform, crop_transform, transform_points, warp_crop
from pipelines.faces.analysis import FaceAnalyzer, detection_size
from pipelines.faces.insightface_loader import load_analysis
from pipelines.faces.pack import FacePack
from pipelines.faces.scrfd import detect_faces

SIX_CENTRES = np.array([[115, 331], [321, 212], [517, 346], [800, 408], [956, 128], [1180, 338]])
"""Middle of each face of ``six_people``, as seen by eye, from left to right."""


@pytest.mark.parametrize("det_size", [None, (320, 320), (640, 640)])
def test_six_faces_of_six(pack: FacePack, six_people: np.ndarray, det_size: tuple[int, int] | None) -> None:
    found = sorted(FaceAnalyzer(pack, det_size).detect(six_people), key=lambda d: d.box[0])
    assert len(found) == 6
    for detection, centre in zip(found, SIX_CENTRES, strict=True):
        assert np.abs(detection.box.reshape(2, 2).mean(axis=0) - centre).max() < 25
        assert detection.score > 0.8 and detection.landmarks5.shape == (5, 2)
        left_eye, right_eye, nose, left_mouth, right_mouth = detection.landmarks5
        assert left_eye[0] < right_eye[0] and left_mouth[0] < right_mouth[0]
        assert max(left_eye[1], right_eye[1]) < nose[1] < max(left_mouth[1], right_mouth[1])


def test_best_score_first_and_no_face_in_noise(analyzer: FaceAnalyzer, six_people: np.ndarray) -> None:
    scores = [d.score for d in analyzer.detect(six_people)]
    assert scores == sorted(scores, reverse=True)
    assert analyzer.detect(np.random.default_rng(0).integers(0, 255, (240, 320, 3), dtype=np.uint8)) == []
    assert analyzer.detect(np.zeros((7, 3, 3), np.uint8)) == []


def test_colours_are_rgb(analyzer: FaceAnalyzer, pack: FacePack, six_people: np.ndarray) -> None:
    """Embeddings are those of a direct run of the recogniser on RGB crops; on BGR ones they are not."""
    session = onnxruntime.InferenceSession(str(pack.root / "rec_sface.onnx"))
    (name,) = (i.name for i in session.get_inputs())
    for detection in analyzer.detect(six_people):
        ours = analyzer.embed(six_people, detection.landmarks5)
        crop = warp_crop(six_people, arcface_transform(detection.landmarks5), 112).astype(np.float32)

        def direct(image: np.ndarray) -> np.ndarray:
            vector = session.run(None, {name: image.transpose(2, 0, 1)[None]})[0][0]
            return vector / np.linalg.norm(vector)

        assert ours.dtype == np.float32 and ours.shape == (128,) and np.linalg.norm(ours) == pytest.approx(1, abs=1e-5)
        assert ours @ direct(crop) > 0.9999
        assert ours @ direct(np.ascontiguousarray(crop[:, :, ::-1])) < 0.99


def test_six_people_are_six(analyzer: FaceAnalyzer, pack: FacePack, six_people: np.ndarray) -> None:
    vectors = [analyzer.embed(six_people, d.landmarks5) for d in analyzer.detect(six_people)]
    assert pack.threshold is not None
    assert max(a @ b for a, b in itertools.combinations(vectors, 2)) < 1 - pack.threshold


def test_a_crop_gives_the_embedding_of_the_frame(analyzer: FaceAnalyzer, six_people: np.ndarray) -> None:
    for detection in analyzer.detect(six_people):
        transform = crop_transform(detection.landmarks5, 256)
        crop = warp_crop(six_people, transform, 256)
        moved = transform_points(transform, detection.landmarks5)
        assert analyzer.embed(crop, moved) @ analyzer.embed(six_people, detection.landmarks5) > 0.99


@pytest.mark.parametrize(
    ("frame", "size"),
    [
        ((1920, 1080), (640, 384)),  # a third: 60 pixels become 20
        ((1080, 1920), (384, 640)),
        ((1280, 720), (448, 256)),
        ((512, 512), (320, 320)),
        ((96, 96), (320, 320)),
        ((3840, 2160), (1280, 736)),
        ((2000, 20), (672, 32)),
    ],
)
def test_detection_size(frame: tuple[int, int], size: tuple[int, int]) -> None:
    assert detection_size(*frame) == size


def test_detection_size_is_never_an_enlargement_beyond_the_smallest() -> None:
    assert detection_size(640, 480, min_face=5) == (640, 480)


def test_a_small_face_in_a_large_frame_is_found(analyzer: FaceAnalyzer, astronaut: np.ndarray) -> None:
    frame = np.full((1080, 1920, 3), 90, np.uint8)
    face = analyzer.detect(astronaut)[0]
    scale = 64 / (face.box[2] - face.box[0])
    small = cv2.resize(astronaut, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    frame[500 : 500 + small.shape[0], 1200 : 1200 + small.shape[1]] = small
    (found,) = analyzer.detect(frame)
    np.testing.assert_allclose(found.landmarks5, face.landmarks5 * scale + [1200, 500], atol=8)


def test_bad_images_are_named(analyzer: FaceAnalyzer, astronaut: np.ndarray) -> None:
    for bad in (astronaut[:, :, 0], astronaut.astype(np.float32), np.dstack([astronaut, astronaut[:, :, :1]])):
        with pytest.raises(ValueError, match=r"\(height, width, 3\) of uint8"):
            analyzer.detect(bad)


def test_faces_are_insightfaces_own(pack: FacePack, six_people: np.ndarray) -> None:
    """Its ``detect`` over every cell and ours over those with a face give the same, of faces and of none."""
    detector = load_analysis(pack.root).det_model
    detector.prepare(-1, det_thresh=0.3)
    for image in (cv2.resize(six_people, (640, 224)), np.zeros((64, 96, 3), np.uint8)):
        ours = detect_faces(detector, image)
        theirs = detector.detect(image[:, :, ::-1], input_size=image.shape[1::-1])
        assert len(ours[0]) >= 4 or not image.any()
        for mine, other in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(mine, other)


def test_embeddings_are_insightfaces_own(analyzer: FaceAnalyzer, six_people: np.ndarray) -> None:
    """Its own warp of the face, and ours with the same least squares fit."""
    recogniser = analyzer._analysis.models["recognition"]
    for detection in analyzer.detect(six_people):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            theirs = recogniser.get(six_people[:, :, ::-1], Face(kps=detection.landmarks5))
        assert analyzer.embed(six_people, detection.landmarks5) @ (theirs / np.linalg.norm(theirs)) > 0.99999
