"""Searching block by block finds what comparing every pair finds, and merging over the graph is average linkage."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial.distance import pdist

from pipelines.identity import linkage as ours
from pipelines.identity.bcubed import bcubed
from pipelines.identity.constraints import SAME_IMAGE, SameImage, TrackSpans, cannot_link_pairs
from pipelines.identity.linkage import agglomerate, blocked_pairs, cluster_rows, count_blocks, search_blocks
from pipelines.identity.neighbours import Partition, cross_pairs, near_pairs
from pipelines.samples.synthetic_tracks import Population, TrackEmbeddings, draw_tracks


@pytest.fixture(scope="module")
def tracks() -> TrackEmbeddings:
    return draw_tracks(6000, 160, seed=3)


def seen(tracks: TrackEmbeddings) -> TrackSpans:
    return TrackSpans(tracks.video, tracks.start, tracks.end)


def unit(random: np.random.Generator, n: int, width: int) -> np.ndarray:
    made = random.normal(size=(n, width)) + 0.4
    return (made / np.linalg.norm(made, axis=1, keepdims=True)).astype(np.float32)


def parts(n: int, i: np.ndarray, j: np.ndarray) -> np.ndarray:
    return connected_components(coo_array((np.ones(len(i)), (i, j)), shape=(n, n)), directed=False)[1]


def in_a_gap(vectors: np.ndarray, at_least: float) -> float:
    """A threshold by ``at_least`` with no similarity within rounding of it: a tie may fall on either side of one,
    as matrix products of other sizes add in another order."""
    exact = vectors.astype(np.float64) @ vectors.astype(np.float64).T
    above = np.sort(exact[np.triu_indices(len(vectors), 1)])
    above = above[np.searchsorted(above, at_least) :][:50]
    if len(above) < 2:
        return at_least if not len(above) or above[0] - at_least > 1e-6 else float(above[0]) + 1e-6
    widest = int(np.argmax(np.diff(above)))
    return float(above[widest : widest + 2].mean())


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 700), st.sampled_from([1, 3, 1000]), st.floats(-0.2, 0.9))
@example(554, 545, 1, 0.0)
def test_near_pairs_are_near_and_connect_what_all_near_pairs_connect(seed, n, nearest, at_least):
    vectors = unit(np.random.default_rng(seed), n, 12)
    at_least = in_a_gap(vectors, at_least)
    every = np.argwhere(np.triu(vectors @ vectors.T >= at_least, 1))
    found = near_pairs(vectors, at_least, nearest)
    pairs = set(zip(found.i.tolist(), found.j.tolist(), strict=True))
    assert len(pairs) == len(found.i) and pairs <= {tuple(pair) for pair in every.tolist()}
    np.testing.assert_array_equal(parts(n, found.i, found.j), parts(n, *every.T))
    if nearest == 1000:
        assert len(pairs) == len(every)


def test_pairs_across_two_sets():
    vectors = unit(np.random.default_rng(0), 900, 12)
    rows, columns = vectors[:600], vectors[600:]
    found = cross_pairs(rows, columns, 0.8, 1000)
    wanted = {tuple(pair) for pair in np.argwhere(rows @ columns.T >= 0.8).tolist()}
    assert set(zip(found.i.tolist(), found.j.tolist(), strict=True)) == wanted and wanted
    few = cross_pairs(rows, columns, 0.8, 1)
    assert len(few.i) < len(found.i)
    np.testing.assert_array_equal(parts(900, few.i, few.j + 600), parts(900, found.i, found.j + 600))


@pytest.mark.parametrize(("blocks", "copies"), [(1, 8), (13, 1), (90, 8), (700, 8), (700, 1)])
def test_the_nearest_pivots_are_those_of_a_plain_sort(blocks, copies):
    random = np.random.default_rng(blocks)
    partition, vectors = Partition(np.eye(12, dtype=np.float32), unit(random, blocks, 12)), unit(random, 3000, 12)
    found = partition.nearest(vectors, copies)
    plain = np.argsort(vectors @ partition.centroids.T, axis=1)[:, -copies:]
    np.testing.assert_array_equal(np.sort(found, axis=1), np.sort(plain, axis=1))


def test_blocks_bring_people_together(tracks, monkeypatch):
    assert count_blocks(100_000_000)[1] > count_blocks(1_000_000)[1] == 8
    monkeypatch.setattr(ours, "BLOCK_SIZE", 512)
    assert count_blocks(6000) == (94, 8)
    found = blocked_pairs(tracks.vectors, 0.5, search_blocks)
    exact = near_pairs(tracks.vectors, 0.5)
    together = bcubed(parts(6000, found.i, found.j), parts(6000, exact.i, exact.j))
    assert together.precision == 1.0 and together.recall > 0.999
    again = blocked_pairs(tracks.vectors, 0.5, search_blocks)
    np.testing.assert_array_equal(again.i, found.i)


@pytest.mark.parametrize("dense", [2048, 40])
@pytest.mark.parametrize("exact", [20_000, 100])
def test_the_drawn_people_are_found_in_every_way(tracks, monkeypatch, dense, exact):
    """Every pair or blocks; matrices or the graph."""
    monkeypatch.setattr(ours, "EXACT", exact)
    monkeypatch.setattr(ours, "BLOCK_SIZE", 512)
    monkeypatch.setattr(ours, "MAX_DENSE_TRACKS", dense)
    score = bcubed(cluster_rows(tracks.vectors, seen(tracks), 0.5), tracks.person)
    assert score.precision >= 0.995 and score.f1 >= 0.99


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.3, 0.9))
def test_merging_over_the_graph_is_average_linkage(seed, at_least):
    vectors = unit(np.random.default_rng(seed), 60, 6)
    reference = fcluster(linkage(pdist(vectors.astype(np.float64), "cosine"), "average"), 1 - at_least, "distance")
    i, j = np.triu_indices(60, 1)
    found = agglomerate(vectors.copy(), np.ones(60, np.int64), i, j, np.empty((0, 2), np.int64), at_least)
    assert len(set(zip(found.tolist(), reference.tolist(), strict=True))) == len(set(found)) == len(set(reference))


def test_a_chain_between_two_people_does_not_join_them():
    """Twenty tracks each, and a bridge of tracks that lie between them: every step of it is near enough."""
    random = np.random.default_rng(1)
    ends = np.linalg.qr(random.normal(size=(64, 2)))[0].T
    turns = np.concatenate([np.zeros(20), np.linspace(0, np.pi / 2, 9)[1:-1], np.full(20, np.pi / 2)])
    vectors = (np.cos(turns)[:, None] * ends[0] + np.sin(turns)[:, None] * ends[1]).astype(np.float32)
    vectors += random.normal(size=vectors.shape).astype(np.float32) * 0.02
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    elsewhere = TrackSpans(np.arange(47), np.zeros(47, np.int64), np.ones(47, np.int64))
    assert len(np.unique(parts(47, *np.argwhere(np.triu(vectors @ vectors.T > 0.5, 1)).T))) == 1, "one connected part"
    labels = cluster_rows(vectors, elsewhere, 0.5)
    assert len(set(labels[:20])) == len(set(labels[27:])) == 1 and labels[0] != labels[-1]


@pytest.mark.parametrize("dense", [2048, 3])
def test_nobody_is_twice_in_one_frame_in_either_way(monkeypatch, dense):
    monkeypatch.setattr(ours, "MAX_DENSE_TRACKS", dense)
    tracks = draw_tracks(400, 64, 5, Population(same=0.6, same_spread=0.05, same_least=0.3, one_video=1, zipf=1))
    where = TrackSpans(tracks.video % 3, tracks.start // 7, tracks.end // 7 + 20)
    cannot_link = cannot_link_pairs(tracks.vectors, where, SAME_IMAGE)
    assert len(cannot_link) > 1000
    labels = cluster_rows(tracks.vectors, where, 0.6)
    assert (labels[cannot_link[:, 0]] != labels[cannot_link[:, 1]]).all() and len(np.unique(labels)) < 400


def test_apart_pairs_are_those_that_share_a_frame():
    random = np.random.default_rng(2)
    video, start = random.integers(0, 4, 60), random.integers(0, 50, 60)
    where = TrackSpans(video, start, start + random.integers(1, 20, 60))
    vectors = unit(random, 60, 8)
    wanted = {
        (a, b)
        for a in range(60)
        for b in range(a + 1, 60)
        if video[a] == video[b]
        and where.start[a] < where.end[b]
        and where.start[b] < where.end[a]
        and np.round(vectors[a] @ vectors[b], 6) < 0.6
    }
    assert {tuple(pair) for pair in cannot_link_pairs(vectors, where, SameImage(likeness=0.6)).tolist()} == wanted


def test_bcubed_of_a_known_case():
    score = bcubed([0, 0, 0, 1], [5, 5, 6, 6])
    assert score.precision == pytest.approx((2 / 3 + 2 / 3 + 1 / 3 + 1) / 4)
    assert score.recall == pytest.approx((1 + 1 + 0.5 + 0.5) / 4)
    assert bcubed([], []).f1 == pytest.approx(1.0)
    with pytest.raises(ValueError, match="3 labels for 1"):
        bcubed([1, 2, 3], [1])


def test_drawn_tracks_have_the_requested_similarities(tracks):
    order = np.argsort(tracks.person, kind="stable")
    person, vectors = tracks.person[order], tracks.vectors[order]
    same = person[:-1] == person[1:]
    similarity = np.einsum("nd,nd->n", vectors[:-1], vectors[1:])
    assert abs(similarity[same].mean() - 0.87) < 0.01 and abs(similarity[same].std() - 0.05) < 0.01
    other = (vectors[:1500] @ vectors[3000:4500].T).ravel()
    assert similarity[same].min() >= 0.6
    assert abs(other.mean() - 0.02) < 0.01 and abs(other.std() - 0.09) < 0.01
    assert np.bincount(person).max() <= 200
    np.testing.assert_array_equal(draw_tracks(6000, 160, seed=3).vectors, tracks.vectors)
