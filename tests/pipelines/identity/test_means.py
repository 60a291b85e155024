"""A track's embedding is that of the person who is there longest, and faces of others disagree with it."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.identity.means import agreement, track_means


def unit(*values: float) -> np.ndarray:
    return np.asarray(values, np.float32) / np.linalg.norm(values)


def test_the_best_faces_make_the_mean_and_junk_makes_none():
    ids = ["b", "a", "a", "a", "a"]
    vectors = np.stack([unit(0, 0, 1), unit(1, 0, 0), unit(1, 1, 0), unit(1, 0.5, 0), unit(1, 0.2, 0)])
    found, means = track_means(ids, vectors, [0.0, 3.0, 0.0, 2.0, 1.0], best=2)
    assert found == ["a"]
    expected = vectors[1] + vectors[3]
    np.testing.assert_allclose(means, [expected / np.linalg.norm(expected)], atol=1e-5)
    nothing, means = track_means(ids, vectors, np.zeros(5))
    assert nothing == [] and means.shape[0] == 0


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 40), st.integers(1, 4))
def test_means_of_many_tracks_are_those_of_one_after_the_other(seed, n, best):
    random = np.random.default_rng(seed)
    ids = [f"t{i}" for i in random.integers(0, 8, n)]
    vectors = np.stack([unit(*row) for row in random.normal(size=(n, 5)) + 0.5])
    worth = random.integers(-1, 4, n).astype(float)
    found, means = track_means(ids, vectors, worth, best)
    assert found == sorted({track for track, w in zip(ids, worth, strict=True) if w > 0})
    for track, mean in zip(found, means, strict=True):
        faces = [i for i in range(n) if ids[i] == track and worth[i] > 0]
        alike = vectors[faces].astype(np.float64) @ vectors[faces].T
        typical = int(np.argmax(np.round(np.median(alike, axis=1), 4)))
        near = [i for i, row in zip(faces, alike[typical], strict=True) if row >= 0.4]
        wanted = vectors[sorted(near, key=lambda i: -worth[i])[:best]].sum(axis=0)
        np.testing.assert_allclose(mean, wanted / np.linalg.norm(wanted), atol=1e-5)


def test_a_track_that_changes_hands_counts_for_whom_it_shows_longer():
    first, second = unit(1, 0.1, 0), unit(0, 0.1, 1)
    ids, vectors = ["t"] * 5, np.stack([first, first, first, second, second])
    _, means = track_means(ids, vectors, [1, 1, 1, 9, 9])
    np.testing.assert_allclose(means[0], first, atol=1e-5)
    agree = agreement(pa.chunked_array([ids]), vectors)
    assert agree[:3].min() > agree[3:].max()


def test_agreement_is_with_the_others_and_one_alone_has_none():
    vectors = np.stack([unit(1, 0), unit(0, 1), unit(1, 1)])
    found = agreement(pa.chunked_array([["a", "b", "a"]]), vectors)
    np.testing.assert_allclose(found, [0.7071, np.nan, 0.7071], atol=1e-4)
    assert agreement(pa.chunked_array([], pa.string()), np.zeros((0, 2), np.float32)).shape == (0,)
