"""Frames are sampled by time, the first after every hard cut among them, in one pass."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.media.shot_features import ShotFeatures, shrink
from pipelines.media.shots import ShotConfig, find_hard_cuts
from pipelines.media.survey import SurveyConfig, Surveyor
from tests.support.measured_frames import measure_frames

BLANK = np.zeros((36, 64, 3), np.uint8)


def frames_of(times, scenes=None):
    """(index, time, image): a random image a scene, still within it."""
    scenes = scenes if scenes is not None else [0] * len(times)
    images = {s: np.random.default_rng(s).integers(0, 255, (36, 64, 3), np.uint8) for s in set(scenes)}
    return [(i, t, images[s]) for i, (t, s) in enumerate(zip(times, scenes, strict=True))]


def sampled(frames, per_second=5.0):
    return [(f.frame_index, f.after_cut) for f in Surveyor(SurveyConfig(per_second=per_second)).sample(frames)]


@pytest.mark.parametrize(("fps", "step"), [(25, 5), (30, 6), (24, 4), (60, 12), (3, 1)])
def test_a_constant_rate_is_sampled_at_least_as_often_as_asked(fps, step):
    times = np.arange(fps * 4) / fps
    assert [index for index, _ in sampled(frames_of(times))] == list(range(0, len(times), step))


@settings(deadline=None, max_examples=40)
@given(st.lists(st.floats(0.01, 0.5), min_size=1, max_size=120), st.integers(1, 4))
def test_a_variable_rate_is_sampled_by_time_and_every_cut_is_seen(gaps, n_scenes):
    times = np.cumsum([0.0, *gaps])
    frames = frames_of(times, [i * n_scenes // len(times) for i in range(len(times))])
    found = sampled(frames)
    features = measure_frames((i, rgb) for i, _, rgb in frames)
    assert [index for index, cut in found if cut] == [0, *find_hard_cuts(features, ShotConfig())]
    indices = [index for index, _ in found]
    assert indices == sorted(set(indices))
    for a, b in itertools.pairwise([*indices, len(times) - 1]):
        assert b <= a + 1 or times[b] - times[a] <= 0.2 + 3e-3


def test_frames_that_are_missing_leave_no_longer_gap_than_they_must():
    times = np.arange(40) / 25
    frames = [f for f in frames_of(times) if not 8 <= f[0] < 20]
    assert [index for index, _ in sampled(frames)] == [0, 5, 7, 20, 25, 30, 35]


def test_no_frames():
    surveyor = Surveyor(SurveyConfig())
    assert list(surveyor.sample([])) == [] and len(surveyor.features()) == 0
    with pytest.raises(ValueError, match="per_second is 0; it must be positive"):
        SurveyConfig(per_second=0)


def test_features_travel_as_bytes():
    features = measure_frames((i, rgb) for i, _, rgb in frames_of([0.0, 0.1, 0.2], [0, 1, 1]))
    again = ShotFeatures.from_bytes(features.to_bytes())
    assert again.to_bytes() == features.to_bytes() and again.difference[1] > 50 and again.difference[2] == 0


def test_a_frame_of_any_shape_is_shrunk_to_its_mean():
    image = np.zeros((720, 1280, 3), np.uint8)
    image[:, 640:] = 200
    small = shrink(image)
    assert small.shape == BLANK.shape and (small[:, :32] == 0).all() and (small[:, 32:] == 200).all()
