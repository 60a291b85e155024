"""Cuts are found where they are, gradual transitions as one each, and motion and flashes are none."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.media.decoder import ProcessDecoder
from pipelines.media.shots import ShotConfig, find_shots
from pipelines.media.survey import SurveyConfig
from tests.support.measured_frames import measure_frames


def scene(seed: int, n: int, drift: float = 0.15) -> np.ndarray:
    """(n, 36, 64, 3) float: a random blurry image that slides slowly, with a little noise."""
    random = np.random.default_rng(seed)
    coarse = random.uniform(0, 255, (4, 10, 3))
    wide = np.kron(coarse, np.ones((9, 9, 1)))
    frames = [np.roll(wide, round(drift * i), axis=1)[:, :64] for i in range(n)]
    return np.stack(frames) + random.normal(0, 1.5, (n, 36, 64, 3))


def found(frames: np.ndarray) -> list[tuple[int, int, str]]:
    images = np.clip(frames, 0, 255).astype(np.uint8)
    return [(s.start_frame, s.end_frame, s.transition) for s in find_shots(measure_frames(enumerate(images)))]


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(6, 60), min_size=1, max_size=6), st.integers(0, 1000))
def test_hard_cuts_are_found_exactly(lengths, seed):
    frames = np.concatenate([scene(seed * 10 + i, n) for i, n in enumerate(lengths)])
    ends = np.cumsum(lengths).tolist()
    kinds = ["none"] + ["hard"] * (len(lengths) - 1)
    assert found(frames) == list(zip([0, *ends[:-1]], ends, kinds, strict=True))


def test_a_dissolve_is_one_transition():
    a, b = scene(1, 70, drift=0.02), scene(2, 70, drift=0.02)
    share = np.clip((np.arange(70) - 29) / 21, 0, 1)[:, None, None, None]  # blended in frames 30 to 49
    (first, second) = found(a * (1 - share) + b * share)
    assert first[0] == 0 and second[1:] == (70, "dissolve")
    assert first[1] == pytest.approx(30, abs=2) and second[0] == pytest.approx(50, abs=2)


@pytest.mark.parametrize("level", [0.0, 255.0])
def test_a_fade_through_a_blank_frame_is_one_transition(level):
    out = np.concatenate([np.ones(40), np.linspace(1, 0, 12), np.zeros(3)])[:, None, None, None]
    frames = np.concatenate([level + (scene(3, 55) - level) * out, level + (scene(4, 55) - level) * out[::-1]])
    (first, second) = found(frames)
    assert first[0] == 0 and second[1:] == (110, "fade")
    assert first[1] == pytest.approx(41, abs=3) and second[0] == pytest.approx(69, abs=3)


def test_a_flash_a_pan_and_a_change_of_light_are_no_cuts():
    flash = scene(5, 40)
    flash[20:22] = 250
    pan = scene(6, 60, drift=1.0)
    light = scene(7, 60) * np.linspace(0.4, 1.0, 60)[:, None, None, None]
    for frames in (flash, pan, light):
        assert found(frames) == [(0, len(frames), "none")]


def test_no_frames_no_shots_and_gaps_keep_their_numbers():
    assert find_shots(measure_frames([])) == []
    images = np.clip(np.concatenate([scene(8, 20), scene(9, 20)]), 0, 255).astype(np.uint8)
    numbered = [(i if i < 20 else i + 7, image) for i, image in enumerate(images)]
    shots = find_shots(measure_frames(numbered))
    assert [(s.start_frame, s.end_frame) for s in shots] == [(0, 20), (27, 47)]


def test_thresholds_are_checked():
    with pytest.raises(ValueError, match=r"ShotConfig\.cut_histogram is 2; it must be from 0 to 1"):
        ShotConfig(cut_histogram=2)
    with pytest.raises(ValueError, match=r"ShotConfig\.cut_ratio is 0; it must be positive"):
        ShotConfig(cut_ratio=0)


@pytest.mark.clips
def test_the_cuts_of_real_clips(clips):
    """All hard cuts within a frame and none false; the dissolve and the fade as one transition each."""
    with (clips / "manifest.csv").open() as stream:
        rows = [row for row in csv.DictReader(stream) if row["cuts"] or float(row["duration"] or 99) < 5]
    decoder = ProcessDecoder()
    for row in rows:
        sampled = list(decoder.survey(clips / row["file"], SurveyConfig()))
        shots = find_shots(decoder.features)
        hard = [shot.start_frame for shot in shots if shot.transition == "hard"]
        assert set(hard) <= {f.frame_index for f in sampled if f.after_cut}
        truth = [tuple(map(int, cut.split("-"))) for cut in row["cuts"].split(";") if cut]
        assert len(shots) == len(truth) + 1, row["file"]
        for shot, before, cut in zip(shots[1:], shots, truth, strict=False):
            assert shot.transition == "hard" if len(cut) == 1 else shot.transition in ("dissolve", "fade")
            assert before.end_frame == pytest.approx(cut[0], abs=1 if len(cut) == 1 else 3)
            assert shot.start_frame == pytest.approx(cut[-1] + len(cut) - 1, abs=1 if len(cut) == 1 else 3)
    decoder.close()
    assert sum(row["cuts"] != "" for row in rows) == 3
