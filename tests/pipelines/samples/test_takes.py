"""Takes of the photographs: the camera stays in the image, one face a frame, the same person in both takes."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import cv2
import numpy as np
import pytest

from pipelines.samples.photographs import SAMPLE_FACES, SampleFace, SamplePhotograph, find_photograph, load_photograph
from pipelines.samples.rendered import SIZES, film_rendered, rendered_people
from pipelines.samples.takes import Take, film_photograph, make_takes, sampling_maps
from pipelines.studio.captures.capture_studio import CaptureStudio

ALL = [(sample, take) for sample in SAMPLE_FACES for take in make_takes(sample.person)]


def _names() -> list[str]:
    return [f"{sample.person}_{'ba'[not take.mirrored]}" for sample, take in ALL]


@pytest.mark.parametrize(("sample", "take"), ALL, ids=_names())
def test_the_camera_stays_in_the_image_and_the_face_in_the_frame(sample: SampleFace, take: Take) -> None:
    height, width = load_photograph(sample.photograph).shape[:2]
    face = np.array([sample.x, sample.y]) + sample.photograph.backdrop
    for index in range(0, take.n_frames, 10):
        map_x, map_y = sampling_maps((height, width), sample, take, index)
        assert map_x.min() > -2 and map_y.min() > -2 and map_x.max() < width + 1 and map_y.max() < height + 1
        inside = (np.abs(map_x - face[0]) < sample.width / 2) & (np.abs(map_y - face[1]) < sample.width / 2)
        rows, columns = np.nonzero(inside)
        assert columns.min() > 0 and columns.max() < take.width - 1
        assert rows.min() > 0 and rows.max() < take.height - 1
        assert np.ptp(columns) > 100, "a face that is wide enough for the corpus"


def test_takes_differ_and_depend_on_the_person_alone() -> None:
    first, second = make_takes("photo_person_1")
    assert (first, second) == make_takes("photo_person_1")
    assert first.seed != second.seed and first.mirrored != second.mirrored and first.face_share < second.face_share
    assert make_takes("photo_person_2")[0].seed != first.seed


def test_frames_move_and_come_back() -> None:
    sample, take = ALL[0]
    image = load_photograph(sample.photograph)
    last = take.n_frames
    start, middle, end = film_photograph(image, sample, take, [0, last // 2, last])
    assert start.shape == (take.height, take.width, 3) and start.dtype == np.uint8
    assert np.array_equal(start, end), "one slow turn"
    assert np.abs(start.astype(int) - middle).mean() > 10


def test_mirroring_and_light() -> None:
    sample = SAMPLE_FACES[0]
    grey = np.full((512, 512, 3), 128, np.uint8)
    plain = replace(make_takes(sample.person)[0], gain=1.0, gamma=1.0, warmth=0.0, gradient=0.0)
    (neutral,) = film_photograph(grey, sample, plain, [0])
    assert set(np.unique(neutral)) == {128}
    (warm,) = film_photograph(grey, sample, replace(plain, warmth=0.1, gamma=1.2), [0])
    assert warm[0, 0, 0] > warm[0, 0, 1] > warm[0, 0, 2] and warm[0, 0, 1] < 128
    (side,) = film_photograph(grey, sample, replace(plain, gradient=0.4), [0])
    assert side[:, -1].mean() - side[:, 0].mean() > 25
    image = load_photograph(sample.photograph)
    (straight,), (mirrored,) = (film_photograph(image, sample, replace(plain, mirrored=m), [5]) for m in (False, True))
    assert np.array_equal(straight[:, ::-1], mirrored)


def test_a_photograph_that_is_gone_is_named() -> None:
    gone = SamplePhotograph(package="skimage", folder="data", sha256="0" * 64, licence="")
    with pytest.raises(FileNotFoundError, match="sha256 000000000000… is not in data of the package 'skimage'"):
        find_photograph(gone)
    with pytest.raises(FileNotFoundError, match="no_such_package"):
        find_photograph(replace(gone, package="no_such_package"))


def test_the_face_stack_finds_one_face_a_frame_and_the_same_person_in_both_takes() -> None:
    from pipelines.faces.analysis import FaceAnalyzer
    from pipelines.faces.pack import face_pack

    analyzer = FaceAnalyzer(face_pack(None))
    vectors: dict[str, list[np.ndarray]] = {}
    for sample, take in ALL:
        image = load_photograph(sample.photograph)
        seen = []
        for frame in film_photograph(image, sample, take, [0, take.n_frames // 3, 2 * take.n_frames // 3]):
            found = analyzer.detect(frame)
            assert len(found) == 1, f"{sample.person}: {len(found)} faces"
            x0, y0, x1, y1 = found[0].box
            assert x1 - x0 >= 100 and x0 > 0 and y0 > 0 and x1 < take.width and y1 < take.height
            seen.append(analyzer.embed(frame, found[0].landmarks5))
        mean = np.mean(seen, axis=0)
        vectors.setdefault(sample.person, []).append(mean / np.linalg.norm(mean))
    same = [float(first @ second) for first, second in vectors.values()]
    people = list(vectors)
    other = [
        float(a @ b) for i, one in enumerate(people) for two in people[:i] for a in vectors[one] for b in vectors[two]
    ]
    assert min(same) > 0.6 and max(other) < 0.45, f"same {min(same):.2f}, other {max(other):.2f}"


def test_rendered_people_are_told_apart_and_known_again(capture_studio: CaptureStudio) -> None:
    from pipelines.faces.analysis import FaceAnalyzer
    from pipelines.faces.pack import face_pack

    pack = face_pack(None)
    analyzer, vectors = FaceAnalyzer(pack), {}
    for person in rendered_people(quick=True):
        for take in (0, 1):
            seen = []
            for frame in film_rendered(capture_studio, person, take, quick=True, frames=[2, 12, 22]):
                assert frame.shape == (SIZES[take], SIZES[take], 3)
                (face,) = analyzer.detect(frame)
                assert face.box[2] - face.box[0] >= 80
                seen.append(analyzer.embed(frame, face.landmarks5))
            mean = np.mean(seen, axis=0)
            vectors[person, take] = mean / np.linalg.norm(mean)
    pairs = [(one[0] == two[0], float(vectors[one] @ vectors[two])) for one, two in combinations(vectors, 2)]
    same, other = (sorted(value for alike, value in pairs if alike is wanted) for wanted in (True, False))
    assert pack.threshold is not None
    near = 1 - pack.threshold
    assert same[0] > near + 0.1 and other[-1] < near - 0.02, f"same from {same[0]:.2f}, other up to {other[-1]:.2f}"


def test_no_frame_has_a_black_border() -> None:
    for sample, take in ALL[::5]:
        (frame,) = film_photograph(load_photograph(sample.photograph), sample, take, [7])
        grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
        for edge in (grey[0], grey[-1], grey[:, 0], grey[:, -1]):
            assert edge.max() > 20 or edge.std() > 1
