"""The judgement of rendered people: what the classifier and the sheets say about known images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipelines.studio.judging.blendshapes import ACTIONS, INPUT_POINTS, BlendshapeScorer
from pipelines.studio.judging.classifier import features, separation, spectrum
from pipelines.studio.judging.face_sample import masked_face
from pipelines.studio.judging.measures import DRIVEN, pose_of
from pipelines.studio.judging.report_files import contact_sheet, table

PEOPLE = [f"p{i // 4}" for i in range(80)]


def test_classifier_finds_a_difference_and_invents_none() -> None:
    g = np.random.default_rng(0)
    alike, other = g.normal(size=(80, 12)), g.normal(size=(80, 12))
    assert 0.35 < separation(alike, other, PEOPLE, PEOPLE).accuracy < 0.65
    apart = separation(alike, other + 4, PEOPLE, PEOPLE)
    assert apart.accuracy > 0.97 and apart.low <= apart.accuracy <= apart.high


def test_classifier_does_not_profit_from_knowing_a_person() -> None:
    g = np.random.default_rng(1)
    real, rendered = (np.repeat(g.normal(scale=3, size=(20, 40)), 4, 0) + g.normal(size=(80, 40)) for _ in "ab")
    assert separation(real, rendered, PEOPLE, PEOPLE).accuracy < 0.75


def test_classifier_names_the_side_with_too_few_people() -> None:
    x = np.zeros((8, 3))
    with pytest.raises(ValueError, match="2 real people"):
        separation(x, x, ["a", "b"] * 4, list("abcdefgh"))


def test_spectrum_of_a_wave_peaks_at_its_frequency() -> None:
    wave = np.broadcast_to(128 + 60 * np.sin(2 * np.pi * np.arange(112) / 8), (112, 112)).astype(np.uint8)
    assert spectrum(wave).argmax() == 4  # 8 waves in 64 pixels, two frequencies a ring


def test_background_does_not_reach_the_features() -> None:
    five = np.array([[100, 130], [156, 130], [128, 160], [106, 190], [150, 190]], np.float64)
    crop = np.full((256, 256, 3), 90, np.uint8)
    changed = crop.copy()
    changed[:60], changed[:, :30] = 255, 0
    for name, values in features(masked_face(crop, five)).items():
        assert np.array_equal(values, features(masked_face(changed, five))[name]), name


def test_driven_actions_are_outputs_of_the_network() -> None:
    assert len(INPUT_POINTS) == len(set(INPUT_POINTS)) == 146 and len(ACTIONS) == len(set(ACTIONS)) == 52
    assert all(set(scored) <= set(ACTIONS) for _, _, scored in DRIVEN.values())
    assert pose_of("gaze right", 0.5).gaze == ((-0.25, 0), (-0.25, 0)) and not pose_of("gaze right", 0.5).actions


def test_a_kit_without_networks_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"face_landmarks_detector\.tflite is missing.*--assets"):
        BlendshapeScorer(tmp_path)


def test_sheet_and_table_show_all() -> None:
    assert contact_sheet([np.zeros((20, 20, 3), np.uint8)] * 11).shape == (320, 1600, 3)
    assert "| score | 0.5 |  |" in table({"Faces": {"score": {"a": 0.5, "b": float("nan")}}})
