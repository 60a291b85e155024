"""Faces are tracked by position, size and embedding; the candidates are spread and the best."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.mining.candidates import SpreadBest
from pipelines.mining.config import MiningConfig, TrackConfig
from pipelines.mining.tracker import Tracker, iou


def box(x: float, width: float = 40.0) -> tuple[float, float, float, float]:
    return (x, 10.0, x + width, 10.0 + width)


def embed_as(*directions: float) -> list[Callable[[], np.ndarray]]:
    """Return functions that return unit vectors at these angles, in radians."""
    return [lambda a=a: np.array([np.cos(a), np.sin(a)], np.float32) for a in directions]


def not_needed() -> np.ndarray:
    raise AssertionError("the boxes leave no doubt")


def test_faces_that_move_a_little_keep_their_tracks_without_embeddings():
    tracker = Tracker(TrackConfig())
    for i in range(10):
        assert tracker.update(i / 5, [box(200 - 6 * i), box(10 + 6 * i)], [not_needed] * 2) == [0, 1]
    assert tracker.update(2.0, [box(71), box(139), box(300)], [not_needed] * 3) == [1, 0, 2]


def test_faces_that_pass_each_other_are_told_apart_by_their_embeddings():
    tracker = Tracker(TrackConfig())
    assert tracker.update(0.0, [box(10), box(50)], embed_as(0.0, 1.5)) == [0, 1]
    assert tracker.update(0.2, [box(26), box(36)], embed_as(1.4, 0.1)) == [1, 0]  # each overlaps with both
    assert tracker.update(0.4, [box(10), box(52)], embed_as(1.4, 0.1)) == [1, 0]


def test_boxes_decide_where_only_one_overlaps_well():
    tracker = Tracker(TrackConfig(decisive_overlap=0.6))
    assert tracker.update(0.0, [box(10), box(50)], [not_needed] * 2) == [0, 1]
    assert tracker.update(0.2, [box(14), box(46)], [not_needed] * 2) == [0, 1]  # 0.82 against 0.05


def test_a_face_where_another_was_is_another():
    tracker = Tracker(TrackConfig())
    assert tracker.update(0.0, [box(10)], embed_as(0.0)) == [0]
    assert tracker.update(0.2, [box(35)], embed_as(1.4)) == [1]  # a third of it overlaps, and its embedding differs
    assert tracker.update(0.4, [box(60)], embed_as(1.3)) == [1]


def test_a_gap_is_bridged_up_to_its_limit_and_another_size_is_another_face():
    tracker = Tracker(TrackConfig(max_gap_s=1.0))
    same = embed_as(0.0)
    assert tracker.update(0.0, [box(10)], same) == [0]
    assert tracker.update(0.5, [], []) == []
    assert tracker.update(1.0, [box(14)], same) == [0]
    assert tracker.update(2.2, [box(14)], same) == [1]
    assert tracker.update(2.4, [box(10, width=90)], same) == [2]


def test_iou():
    a = np.array([box(0), box(100)])
    np.testing.assert_allclose(iou(a, np.array([box(0), box(20), box(300)])), [[1, 1 / 3, 0], [0, 0, 0]])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=300), st.integers(1, 12))
def test_the_kept_few_are_spread_and_hold_the_best(ranks, k):
    kept = SpreadBest[int](k)
    for position, rank in enumerate(ranks):
        kept.put(position, rank, position)
    best = kept.best()
    assert len(best) == min(k, len(ranks)) and best == sorted(set(best))
    assert max(ranks) in [ranks[i] for i in best]
    assert all(b - a <= max(6 * len(ranks) // k, 1) for a, b in itertools.pairwise(best))


def test_fewer_are_kept_where_fewer_are_asked_for():
    kept = SpreadBest[int](8)
    for position in range(100):
        kept.put(position, float(position == 70), position)
    assert len(kept.best(3)) == 3 and 70 in kept.best(3) and len(kept.best(99)) == 8


def test_settings_are_checked():
    with pytest.raises(ValueError, match=r"TrackConfig\.candidates is 0; it must be positive"):
        TrackConfig(candidates=0)
    with pytest.raises(ValueError, match=r"TrackConfig\.detector_threshold is 3; it must be from 0 to 1"):
        TrackConfig(detector_threshold=3)
    with pytest.raises(ValueError, match=r"MiningConfig\.decode_silence_s is -1; it must be positive"):
        MiningConfig(decode_silence_s=-1)
