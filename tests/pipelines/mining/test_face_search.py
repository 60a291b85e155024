"""Faces are searched for in the whole frame now and then, and near the known faces in between."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

import cv2
import numpy as np
import pytest
import skimage.data

from pipelines.faces.analysis import Detection, FaceAnalyzer
from pipelines.faces.pack import embedded_pack
from pipelines.mining.config import TrackConfig, former_track_settings
from pipelines.mining.face_search import face_area, is_cut, merge_detections, uncovered_areas
from pipelines.mining.shot_tracks import Segment
from pipelines.mining.steps import mining_steps

CONFIG = TrackConfig()


class Frame(NamedTuple):
    frame_index: int
    time_s: float
    rgb: np.ndarray


class CountingAnalyzer(FaceAnalyzer):
    """The embedded pack, which counts the searches by the kind of area."""

    def __init__(self) -> None:
        super().__init__(embedded_pack(), min_input=CONFIG.detector_input_px)
        self.searches: Counter[str] = Counter()

    def detect(self, frame: np.ndarray) -> list[Detection]:
        self.searches["whole"] += 1
        return super().detect(frame)

    def detect_area(self, frame: np.ndarray, area: tuple[int, int, int, int], longer_side: int) -> list[Detection]:
        self.searches["small" if longer_side == CONFIG.small_faces_input_px else "area"] += 1
        return super().detect_area(frame, area, longer_side)


@pytest.fixture
def analyzer() -> CountingAnalyzer:
    return CountingAnalyzer()


def frames(lefts: Sequence[Sequence[int]]) -> list[Frame]:
    """Frames of 960 x 540 at 5 per second with portraits of 256 pixels; ``lefts[i]``: their left edges in frame i."""
    portrait = skimage.data.astronaut()[:256, 96:352]
    made = []
    for index, edges in enumerate(lefts):
        rgb = np.full((540, 960, 3), 90, np.uint8)
        for left in edges:
            rgb[140:396, left : left + 256] = portrait
        made.append(Frame(5 * index, index / 5, rgb))
    return made


def follow(analyzer: CountingAnalyzer, lefts: Sequence[Sequence[int]]) -> list[tuple[int, ...]]:
    """Return the indices of the frames of each track."""
    segment = Segment(CONFIG, "v")
    for frame in frames(lefts):
        segment.follow(frame, analyzer)
    return [tuple(frame // 5 for frame in track.frames) for track in segment.tracks.values()]


def test_a_known_face_is_followed_without_the_whole_frame(analyzer: CountingAnalyzer) -> None:
    assert follow(analyzer, [[300 + 12 * i] for i in range(11)]) == [tuple(range(11))]
    assert analyzer.searches == {"whole": 3, "small": 3, "area": 8}, "the whole frame at 0, 1 and 2 seconds"


def test_a_new_face_is_found_within_the_stated_time(analyzer: CountingAnalyzer) -> None:
    """The second face appears in frame 1, and the whole frame is searched again after one second, in frame 5."""
    assert follow(analyzer, [[80], *[[80, 620]] * 9]) == [tuple(range(10)), tuple(range(5, 10))]


def test_a_lost_face_has_the_whole_frame_searched(analyzer: CountingAnalyzer) -> None:
    """A face that jumps is found where it is now; one that has gone is searched for once in the whole frame."""
    jumped = follow(analyzer, [[60], [60], [600], [600]])
    assert sorted(frame for track in jumped for frame in track) == [0, 1, 2, 3]
    assert analyzer.searches["whole"] == 2
    analyzer.searches.clear()
    assert follow(analyzer, [[60], [60], [], [], []]) == [(0, 1)]
    assert analyzer.searches["whole"] == 2 and analyzer.searches["area"] == 4


def test_an_area_gives_the_boxes_of_the_frame(analyzer: CountingAnalyzer) -> None:
    (frame,) = frames([[500]])
    (whole,) = analyzer.detect(frame.rgb)
    (near,) = analyzer.detect_area(frame.rgb, face_area(whole.box, 960, 540, CONFIG), CONFIG.area_input_px)
    width = whole.box[2] - whole.box[0]
    np.testing.assert_allclose(near.landmarks5, whole.landmarks5, atol=0.1 * width)
    np.testing.assert_allclose(near.box, whole.box, atol=0.2 * width)


def test_small_faces_are_found_and_large_ones_not_twice(analyzer: CountingAnalyzer) -> None:
    """A face of 20 pixels is 7 wide in the first input and 12 in the second, where large faces come in pieces."""
    rgb = np.full((360, 640, 3), 90, np.uint8)
    rgb[100:164, 400:464] = cv2.resize(skimage.data.astronaut()[:256, 96:352], (64, 64), interpolation=cv2.INTER_AREA)
    assert analyzer.detect(rgb) == []
    segment = Segment(CONFIG, "v")
    segment.follow(Frame(0, 0.0, rgb), analyzer)
    (track,) = segment.tracks.values()
    assert 14 < track.widths[0] < 30
    large = np.repeat(np.repeat(skimage.data.astronaut()[:200, 120:320], 4, axis=0), 4, axis=1)
    segment = Segment(CONFIG, "v")
    segment.follow(Frame(0, 0.0, large), analyzer)
    assert len(segment.tracks) == 1


def test_an_area_lies_inside_the_frame_and_is_never_enlarged() -> None:
    assert face_area(np.array([100.0, 100, 200, 150]), 640, 360, CONFIG) == pytest.approx((40, 15, 260, 235), abs=1)
    assert face_area(np.array([10.0, 10, 30, 30]), 640, 360, CONFIG) == (0, 0, 84, 84)
    left, top, right, bottom = face_area(np.array([900.0, -400, 950, -350]), 640, 360, CONFIG)
    assert 0 <= left < right <= 640 and 0 <= top < bottom <= 360, "a pixel is left of an area outside"


def test_an_area_covers_its_neighbour_or_not() -> None:
    boxes = [np.array([100.0, 100, 200, 220]), np.array([130.0, 110, 210, 215]), np.array([400.0, 100, 500, 220])]
    assert len(uncovered_areas(boxes, 640, 360, CONFIG)) == 2
    inside = [np.array([100.0, 50, 300, 300]), np.array([180.0, 150, 200, 175])]
    assert len(uncovered_areas(inside, 640, 360, CONFIG)) == 2, "in the large area it would be too small"


def test_one_face_in_two_areas_is_one() -> None:
    def detection(x: float, score: float) -> Any:
        return Detection(np.array([x, 0, x + 50, 60], np.float32), score, np.zeros((5, 2), np.float32))

    best, other = detection(100, 0.9), detection(300, 0.7)
    assert merge_detections([detection(110, 0.8), other, best]) == [best, other]
    assert merge_detections([]) == []


@pytest.mark.parametrize(
    ("box", "cut"), [((60, 60, 90, 90), False), ((40, 60, 90, 90), True), ((60, 60, 199.5, 90), True)]
)
def test_only_the_edges_inside_the_frame_cut(box: tuple[float, ...], cut: bool) -> None:
    assert is_cut(np.array(box), (40, 40, 200, 200), 640, 360) is cut
    assert not is_cut(np.array(box), (40, 40, 200, 200), 200, 200) or box[0] == 40


def test_the_step_goes_on_with_what_was_mined_before_areas() -> None:
    tracks = mining_steps()[1]
    former = next(tracks.as_former(former) for former in tracks.continues if former.version == 3)
    assert former.fingerprint() != tracks.fingerprint()
    assert former.config["tracks"]["max_jump"] == 1.5 and "area_input_px" not in former.config["tracks"]
    chosen = former_track_settings(asdict(TrackConfig(max_jump=0.7)))
    assert chosen["max_jump"] == 0.7, "it was chosen then, too"
