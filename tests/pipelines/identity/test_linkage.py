"""People are told apart as truth says, whatever the order, and time rules out what looks alike."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import pdist

from pipelines.identity.constraints import SameImage, TrackSpans, in_step
from pipelines.identity.linkage import cluster_rows, number_labels


def elsewhere(n: int) -> TrackSpans:
    """Every track in a video of its own."""
    return TrackSpans(np.arange(n), np.zeros(n, np.int64), np.full(n, 9))


def people(seed: int, n_people: int, each: int, spread: float = 0.6, width: int = 64) -> tuple[np.ndarray, np.ndarray]:
    """(vectors, who): unit embeddings around random centres."""
    random = np.random.default_rng(seed)
    centres = random.normal(size=(n_people, width))
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    who = np.repeat(np.arange(n_people), each)
    vectors = centres[who] + random.normal(size=(len(who), width)) * spread / np.sqrt(width)
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32), who


def same_partition(a: np.ndarray, b: np.ndarray) -> bool:
    return len(set(zip(a.tolist(), b.tolist(), strict=True))) == len(set(a.tolist())) == len(set(b.tolist()))


def test_people_are_told_apart():
    vectors, who = people(0, 30, 6)
    labels = number_labels(cluster_rows(vectors, elsewhere(len(who)), 0.55))
    assert same_partition(labels, who)
    assert labels[0] == 0 and sorted(set(labels.tolist())) == list(range(30))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.2, 0.9))
def test_it_is_average_linkage_in_any_order(seed, threshold):
    random = np.random.default_rng(seed)
    vectors, _ = people(seed, 6, 5, spread=1.2, width=16)
    labels = cluster_rows(vectors, elsewhere(30), threshold)
    distances = np.round(pdist(vectors.astype(np.float64), "cosine"), 6)
    reference = fcluster(linkage(distances, "average"), threshold, "distance")
    assert same_partition(labels, reference)
    shuffled = random.permutation(30)
    assert same_partition(cluster_rows(vectors[shuffled], elsewhere(30), threshold), labels[shuffled])


TOGETHER = TrackSpans(np.array([0, 0, 0, 1]), np.array([0, 49, 80, 0]), np.array([50, 80, 99, 50]))
"""Four tracks, of which the first two share one frame of one video."""


def test_two_tracks_seen_at_once_are_two_people_unless_they_are_one_picture():
    vectors, _ = people(1, 1, 4, spread=0.75)
    alike = float(vectors[0] @ vectors[1])
    label = cluster_rows(vectors, TOGETHER, 0.9, SameImage(likeness=alike + 0.01))
    assert label[0] != label[1]
    same = SameImage(likeness=alike - 0.01)
    assert cluster_rows(vectors, TOGETHER, 0.9, same).tolist() == [0, 0, 0, 0]
    assert cluster_rows(vectors, elsewhere(4), 0.9, SameImage(likeness=1.0)).tolist() == [0, 0, 0, 0]
    turning = np.float32([[f, 3 * f, 5, 2] for f in range(9)])
    back = turning * np.float32([1, -1, 1, -1])
    back[:, 1] += 60
    for other, one_picture in ((turning, True), (back, False), (turning[:2], True), (None, True)):
        poses = np.empty(4, object)
        poses[:] = [turning, other, None, None]
        labels = cluster_rows(vectors, replace(TOGETHER, poses=poses), 0.9, same)
        assert bool(labels[0] == labels[1]) is one_picture


def test_a_mirror_and_a_repeat_are_in_step_and_twins_are_not():
    random = np.random.default_rng(0)
    turns = np.cumsum(random.normal(0, 6, (20, 3)), axis=0)
    one = np.float32(np.column_stack([np.arange(20), turns]))
    seen_small = one[::2] + np.float32([0, 1, 1, 1]) * random.normal(0, 4, (10, 1)).astype(np.float32)
    mirrored = one[3:] * np.float32([1, -1, 1, -1])
    twin = np.float32(np.column_stack([np.arange(20), turns[::-1] + np.array([30, 0, 0])]))
    assert in_step(one, seen_small, 20) and in_step(one, mirrored, 20) and in_step(mirrored, seen_small, 20)
    assert not in_step(one, twin, 20) and in_step(one, twin, 180)
    assert in_step(one[:5], twin[3:], 20), "two frames of both say nothing"


@pytest.mark.parametrize("n", [0, 1])
def test_few_tracks(n):
    assert cluster_rows(np.ones((n, 1), np.float32), elsewhere(n), 0.5).tolist() == [0] * n
