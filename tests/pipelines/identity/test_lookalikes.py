"""Who looks like whom: nearest people of one set, people of two sets or of two splits."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines.identity import linkage
from pipelines.identity.lookalikes import Match, match_sets, match_splits, mean_directions, most_similar_pairs
from pipelines.samples.synthetic_tracks import draw_tracks


def unit(n: int, width: int = 8, seed: int = 0) -> np.ndarray:
    made = np.random.default_rng(seed).normal(size=(n, width)).astype(np.float32)
    return made / np.linalg.norm(made, axis=1, keepdims=True)


def by_number(n: int) -> list[str]:
    return [f"{i:04d}" for i in range(n)]


def test_centres_are_unit_means_of_each_owner():
    names, found = mean_directions(["q", "p", "p"], np.eye(4, dtype=np.float32)[:3])
    assert names == ["p", "q"]
    np.testing.assert_allclose(found, [[0, 0.5**0.5, 0.5**0.5, 0], [1, 0, 0, 0]], atol=1e-6)
    assert mean_directions([], np.empty((0, 4)))[0] == []


def test_the_most_alike_are_those_of_a_plain_search():
    vectors = unit(9)
    found = most_similar_pairs(by_number(9), vectors, 100)
    product = vectors @ vectors.T - 3 * np.eye(9)
    wanted = {tuple(sorted((i, int(row.argmax())))) for i, row in enumerate(product)}
    assert {(int(match.one), int(match.other)) for match in found} == wanted
    assert [m.similarity for m in found] == sorted((m.similarity for m in found), reverse=True)
    assert found[0].similarity == round(float(product.max()), 4)
    assert most_similar_pairs(["x"], vectors[:1], 3) == most_similar_pairs([], np.empty((0, 0), np.float32), 3) == []


def test_blocks_find_the_most_alike_of_a_large_set(monkeypatch):
    tracks = draw_tracks(4000, 160, 8)
    names, vectors = mean_directions([str(person) for person in tracks.person.tolist()], tracks.vectors)
    every = most_similar_pairs(names, vectors, 100)
    monkeypatch.setattr(linkage, "EXACT", 100)
    monkeypatch.setattr(linkage, "BLOCK_SIZE", 512)
    found = most_similar_pairs(names, vectors, 100)
    assert len(every) >= 100 and len(set(found[:40]) & set(every[:40])) >= 39, "a pair that no block holds may miss"


def test_people_of_two_sets_and_of_two_splits():
    vectors = np.eye(4, dtype=np.float32)[[0, 1, 0, 2]]
    names = ["a", "b", "c", "d"]
    assert match_sets(names, vectors, ["x"], vectors[1:2], 0.5) == [Match("b", "x", 1.0)]
    assert match_splits(names, vectors, ["train", "val", "test", "val"], 0.5) == [Match("c", "a", 1.0)]
    assert match_splits(names, vectors, ["train", "val", "train", "val"], 0.5) == []
    with pytest.raises(ValueError, match="4 and 3 numbers; use one face pack"):
        match_sets(names, vectors, ["x"], np.eye(3, dtype=np.float32)[:1], 0.5)
