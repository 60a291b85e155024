"""On real video: who is the same person, and what a turned head measures. Skipped without FFAVATAR_CLIPS."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from pipelines.faces import quality
from pipelines.faces.analysis import FaceAnalyzer
from pipelines.faces.pack import FacePack

pytestmark = pytest.mark.clips

PAIRS = (("lp_d10", "lp_d10_b"), ("lp_d14", "lp_d14_b"), ("lp_d6", "lp_d6_b"))
"""Clips of one person each, the second re-cropped and re-graded (lp_d6_b mirrored too)."""


def frames_of(path: Path, count: int = 3) -> list[np.ndarray]:
    """The first frames of a clip, two seconds apart."""
    kept = []
    with av.open(str(path)) as container:
        rate = float(container.streams.video[0].average_rate or 25)
        for number, frame in enumerate(container.decode(video=0)):
            if number % round(rate * 2) == 5:
                kept.append(frame.to_ndarray(format="rgb24"))
            if len(kept) == count:
                break
    return kept


def track_mean(analyzer: FaceAnalyzer, path: Path) -> np.ndarray:
    vectors = [analyzer.embed(frame, analyzer.detect(frame)[0].landmarks5) for frame in frames_of(path)]
    mean = np.mean(vectors, axis=0)
    return mean / np.linalg.norm(mean)


def test_the_threshold_tells_people_apart(analyzer: FaceAnalyzer, pack: FacePack, clips: Path) -> None:
    means = [[track_mean(analyzer, clips / f"{name}.mp4") for name in pair] for pair in PAIRS]
    assert pack.threshold is not None
    for i, (first, second) in enumerate(means):
        assert 1 - first @ second < pack.threshold - 0.1
        for other in means[i + 1 :]:
            assert min(1 - a @ b for a in (first, second) for b in other) > pack.threshold


def test_blur_shows_in_sharpness(analyzer: FaceAnalyzer, clips: Path) -> None:
    def sharpest(name: str) -> float:
        frames = frames_of(clips / f"{name}.mp4", 2)
        return max(quality.sharpness(quality.aligned_grey(f, analyzer.detect(f)[0].landmarks5)) for f in frames)

    assert sharpest("blurred") < 20 < 60 < sharpest("vr_2")


def test_no_face_where_there_is_none(analyzer: FaceAnalyzer, clips: Path) -> None:
    assert [analyzer.detect(frame) for frame in frames_of(clips / "noface_synth.mp4", 2)] == [[], []]


def test_the_crowds_larger_faces_are_found(analyzer: FaceAnalyzer, clips: Path) -> None:
    for frame in frames_of(clips / "fnp_crowd.mp4", 2):
        assert len([d for d in analyzer.detect(frame) if d.box[2] - d.box[0] >= 40]) >= 4
