"""People are told apart as truth says, whatever the order, and time rules out what looks alike."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import pdist

from pipelines.identity.cluster import Presence, cluster_tracks

ELSEWHERE = [Presence(video_id=f"v{i}", start_frame=0, end_frame=9) for i in range(500)]


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
    labels = cluster_tracks([f"t{i:04d}" for i in range(len(who))], vectors, ELSEWHERE[: len(who)], 0.55)
    assert same_partition(labels, who)
    assert labels[0] == 0 and sorted(set(labels.tolist())) == list(range(30))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.2, 0.9))
def test_it_is_average_linkage_in_any_order(seed, threshold):
    random = np.random.default_rng(seed)
    vectors, _ = people(seed, 6, 5, spread=1.2, width=16)
    ids = [f"t{i}" for i in random.permutation(len(vectors))]
    labels = cluster_tracks(ids, vectors, ELSEWHERE[: len(ids)], threshold)
    distances = np.round(pdist(vectors.astype(np.float64), "cosine"), 6)
    reference = fcluster(linkage(distances, "average"), threshold, "distance")
    assert same_partition(labels, reference)
    shuffled = random.permutation(len(ids))
    again = cluster_tracks([ids[i] for i in shuffled], vectors[shuffled], ELSEWHERE[: len(ids)], threshold)
    np.testing.assert_array_equal(again, labels[shuffled])


def test_two_tracks_seen_at_once_are_two_people_unless_they_are_one_picture():
    vectors, _ = people(1, 1, 4, spread=0.75)
    together = [
        Presence(video_id="v", start_frame=0, end_frame=50),
        Presence(video_id="v", start_frame=49, end_frame=80),
        Presence(video_id="v", start_frame=80, end_frame=99),
        Presence(video_id="w", start_frame=0, end_frame=50),
    ]
    ids = ["a", "b", "c", "d"]
    alike = float(vectors[0] @ vectors[1])
    apart = cluster_tracks(ids, vectors, together, 0.9, same_picture=alike + 0.01)
    assert apart[0] != apart[1]
    assert cluster_tracks(ids, vectors, together, 0.9, same_picture=alike - 0.01).tolist() == [0, 0, 0, 0]
    elsewhere = cluster_tracks(ids, vectors, ELSEWHERE[:4], 0.9, same_picture=1.0)
    assert elsewhere.tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize("n", [0, 1])
def test_few_tracks(n):
    labels = cluster_tracks(["t"][:n], np.ones((n, 1), np.float32), ELSEWHERE[:n], 0.5)
    assert labels.tolist() == [0] * n
