"""Mined tracks are compared with the plain loop's inside of the frame."""

from __future__ import annotations

import numpy as np
import pytest

from flows.bench.bench_mine import covers_track
from flows.bench.plain_loop import PlainTrack


@pytest.mark.parametrize(
    ("box", "covered"),
    [
        ((35, 476, 98, 538), True),  # as far below the frame as the whole face would go
        ((36, 474, 90, 515), True),
        ((60, 479, 120, 512), False),
        ((36, 400, 90, 440), False),
    ],
)
def test_a_face_that_the_frame_cuts_is_compared_inside_of_it(box: tuple[int, ...], covered: bool) -> None:
    plain = PlainTrack("v.mp4", [10, 15], [np.array([36.0, 479, 85, 513])] * 2)
    face = dict(zip(("x0", "y0", "x1", "y1"), box, strict=True))
    track = {"faces": [face | {"frame_index": index} for index in (5, 10, 15)]}
    assert covers_track(track, plain, 512, 512) is covered


def test_a_track_covers_if_more_than_half_of_the_common_frames_agree() -> None:
    plain = PlainTrack("v.mp4", [0, 1, 2], [np.array([0.0, 0, 10, 10])] * 3)
    here, there = {"x0": 0, "y0": 0, "x1": 10, "y1": 10}, {"x0": 50, "y0": 0, "x1": 60, "y1": 10}

    def track(*boxes: dict[str, int]) -> dict[str, object]:
        return {"faces": [box | {"frame_index": index} for index, box in enumerate(boxes)]}

    assert covers_track(track(here, here, there), plain, 100, 100)
    assert not covers_track(track(here, there), plain, 100, 100)
    assert not covers_track({"faces": [here | {"frame_index": 9}]}, plain, 100, 100)
