"""A threshold lies between one person's pairs and those of different people, and stricter the more people there are."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines.identity.calibration import calibrate, labelled_pairs
from pipelines.samples.synthetic_tracks import draw_tracks

RANDOM = np.random.default_rng(0)
SAME, OTHER = RANDOM.normal(0.6, 0.1, 2000), RANDOM.normal(0.1, 0.1, 20_000)


def test_more_people_need_a_stricter_threshold():
    few, many = calibrate(SAME, OTHER, people=30), calibrate(SAME, OTHER, people=1_000_000)
    assert many.threshold < few.threshold - 0.1
    assert many.missed > few.missed and many.false_per_track > 30 * few.false_per_track / 1e6
    assert few.equal_error == pytest.approx(0.0062, abs=0.002)  # normal tails: half of five spreads away
    assert few.same_pairs == 2000 and few.same_mean == pytest.approx(0.6, abs=0.01)


def test_drawn_tracks_are_told_apart_by_the_threshold_found():
    tracks = draw_tracks(3000, 128, 1)
    same, other = labelled_pairs(tracks.vectors, tracks.person)
    found = calibrate(same, other, 100_000)
    assert other.max() < 1 - found.threshold < same.min() + 0.05
    person = tracks.person
    pairs = int((person[:, None] == person[None, :]).sum() - len(person)) // 2
    some, _ = labelled_pairs(tracks.vectors[:1500], person[:1500], most=10**7)
    everything = int((person[:1500, None] == person[None, :1500]).sum() - 1500) // 2
    assert len(some) == everything and 0 < len(same) <= pairs * 5


@pytest.mark.parametrize(
    ("same", "other", "message"),
    [
        (SAME[:5], OTHER, "5 pairs of one person"),
        (SAME, OTHER[:19], "19 pairs of different"),
        (OTHER, SAME, "right way round"),
        (np.append(SAME, np.nan), OTHER, "similarity of nan"),
        (SAME, np.append(OTHER, 3.0), "similarity of 3.0"),
    ],
)
def test_pairs_that_say_nothing_are_refused(same, other, message):
    with pytest.raises(ValueError, match=message):
        calibrate(same, other)
