from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import skimage.data

from pipelines.faces.align import crop_transform, transform_points, warp_crop
from pipelines.faces.analysis import FaceAnalyzer
from pipelines.faces.canonical_face import MIRRORED_POINT
from pipelines.faces.litert import LiteModel
from pipelines.faces.matte import MatteModel, connected_to_face
from pipelines.faces.mesh_detector import MeshDetector
from pipelines.faces.weight_cache import WeightsError

EYES, NOSE, MOUTH = ((33, 133), (362, 263)), 4, (61, 291)
"""Mesh points: corners of the left and the right eye, the nose's tip, the mouth's corners (image's left first)."""


def five_of(mesh: np.ndarray) -> np.ndarray:
    return np.array([*(mesh[list(pair), :2].mean(axis=0) for pair in EYES), mesh[NOSE, :2], *mesh[list(MOUTH), :2]])


def test_the_mesh_lies_where_the_detector_sees_eyes_nose_and_mouth(
    analyzer: FaceAnalyzer, mesh_detector: MeshDetector, six_people: np.ndarray
) -> None:
    for detection in analyzer.detect(six_people):
        transform = crop_transform(detection.landmarks5, 300)
        mesh, score = mesh_detector.detect(warp_crop(six_people, transform, 300))
        assert score > 0.95 and mesh.shape == (468, 3) and mesh.dtype == np.float32
        expected = transform_points(transform, detection.landmarks5)
        assert np.abs(five_of(mesh) - expected).max() < 0.08 * 300
        assert mesh[NOSE, 2] < mesh[[33, 263], 2].mean()  # nearer is smaller


@pytest.mark.parametrize("size", [96, 256, 512])
def test_the_mesh_scales_with_the_crop(
    mesh_detector: MeshDetector,
    astronaut: np.ndarray,
    astronaut_crop: tuple[np.ndarray, np.ndarray, np.ndarray],
    size: int,
) -> None:
    crop, _, landmarks = astronaut_crop
    expected, _ = mesh_detector.detect(crop)
    mesh, _ = mesh_detector.detect(warp_crop(astronaut, crop_transform(landmarks, size), size))
    assert np.abs(mesh / size - expected / 256).max() < 0.03


def test_a_tilted_face_is_found_again_by_the_second_look(
    mesh_detector: MeshDetector, astronaut: np.ndarray, astronaut_crop: tuple[np.ndarray, np.ndarray, np.ndarray]
) -> None:
    crop, _, _ = astronaut_crop
    level, _ = mesh_detector.detect(crop)
    turn = np.array([[np.cos(0.35), -np.sin(0.35)], [np.sin(0.35), np.cos(0.35)]])
    middle = np.array([127.5, 127.5])
    tilt = np.column_stack([turn, middle - turn @ middle])
    tilted, score = mesh_detector.detect(warp_crop(crop, tilt, 256))
    assert score > 0.95
    assert np.abs(transform_points(tilt, level[:, :2]) - tilted[:, :2]).max() < 10


def test_a_mirrored_crop_gives_the_mirrored_mesh(
    mesh_detector: MeshDetector, astronaut_crop: tuple[np.ndarray, np.ndarray, np.ndarray]
) -> None:
    crop, _, _ = astronaut_crop
    mesh, _ = mesh_detector.detect(crop)
    mirrored, _ = mesh_detector.detect(np.ascontiguousarray(crop[:, ::-1]))
    left, right = np.array(list(MIRRORED_POINT.items())).T
    assert np.abs(mesh[left, :2] - (mirrored[right, :2] * [-1, 1] + [255, 0])).max() < 6


def test_no_face_scores_low(mesh_detector: MeshDetector) -> None:
    for image in (skimage.data.coffee()[:256, :256], np.zeros((256, 256, 3), np.uint8)):
        assert mesh_detector.detect(np.ascontiguousarray(image))[1] < 0.5


def test_the_matte_holds_the_person_and_nothing_else(
    matte_model: MatteModel, astronaut_crop: tuple[np.ndarray, np.ndarray, np.ndarray]
) -> None:
    matte = matte_model.matte(astronaut_crop[0])
    assert matte.shape == (256, 256) and matte.dtype == np.uint8
    assert matte[110:220, 90:165].min() > 200  # the face
    assert matte[:60, 230:].max() < 60  # the shuttle behind her
    assert 0.3 < (matte > 127).mean() < 0.8


@pytest.mark.parametrize("shape", [(64, 64), (512, 512), (200, 300)])
def test_the_matte_has_the_size_of_the_crop(matte_model: MatteModel, shape: tuple[int, int]) -> None:
    assert matte_model.matte(np.zeros((*shape, 3), np.uint8)).shape == shape


def test_what_does_not_hang_together_with_the_face_is_left_out() -> None:
    probability = np.zeros((100, 100), np.float32)
    probability[30:90, 35:65] = 0.9  # the person
    probability[60:80, 65:75] = 0.2  # a faint shoulder: part of the person
    probability[20:60, 85:99] = 0.9  # a bystander
    probability[24:30, 35:65] = 0.05  # too faint to join anything ...
    probability[6:24, 35:65] = 0.9  # ... so this is not part of the person
    kept = probability * connected_to_face(probability)
    np.testing.assert_array_equal(kept[30:90, 35:75], probability[30:90, 35:75])
    assert kept[20:60, 85:].max() == 0 and kept[6:24, 35:65].max() == 0
    assert not connected_to_face(np.zeros((100, 100), np.float32)).any()


def test_a_file_that_is_no_model_is_named(tmp_path: Path) -> None:
    path = tmp_path / "face.tflite"
    path.write_bytes(b"no model")
    with pytest.raises(WeightsError, match=r"face\.tflite: LiteRT cannot load it"):
        LiteModel(path)
