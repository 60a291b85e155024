"""Lookalikes: people whose mean embeddings are similar, within a set, across splits, or across two sets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from pipelines.identity.constraints import Vectors, cosine_similarities
from pipelines.identity.incremental import sum_people
from pipelines.identity.linkage import similar_pairs
from pipelines.identity.neighbours import Pairs, cross_pairs

_FLOORS = (0.5, 0.25, -1.0)
"""Least cosine similarities of lookalikes, tried one after the other until enough pairs are found.

In a large set, a low value finds millions of pairs.
"""


@dataclass(frozen=True)
class Match:
    """Two people whose embeddings are similar."""

    one: str
    other: str
    similarity: float
    """Cosine similarity of their mean directions."""


def mean_directions(owner: Sequence[str], vectors: Vectors) -> tuple[list[str], Vectors]:
    """Compute the mean direction of each person.

    Args:
        owner: (N,) person of each vector.
        vectors: (N, D) unit vectors.

    Returns:
        P people, ascending, and (P, D) unit vectors.
    """
    if not len(owner):
        return [], np.asarray(vectors, np.float32)
    names, label = np.unique(np.asarray(owner, dtype=str), return_inverse=True)
    sums = sum_people(vectors, label).sums
    return names.tolist(), sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-9)


def most_similar_pairs(names: Sequence[str], vectors: Vectors, least_count: int) -> list[Match]:
    """Find the pairs of people in which one is the nearest person to the other.

    Args:
        names: (P,) people.
        vectors: (P, D) their unit mean directions.
        least_count: Least number of pairs to find, if there are as many.

    Returns:
        The pairs, the most similar first.
    """
    found: list[Match] = []
    for floor in _FLOORS:
        pairs = similar_pairs(vectors, floor)
        exact = replace(pairs, similarity=cosine_similarities(vectors, pairs.i, pairs.j).astype(np.float32))
        found = _matches(_nearest_only(exact), names, names)
        if len(found) >= least_count:
            break
    return found


def match_sets(
    names: Sequence[str], vectors: Vectors, others: Sequence[str], other_vectors: Vectors, at_least: float
) -> list[Match]:
    """Find pairs of similar people, one in each of two sets.

    Args:
        names: (P,) people of the first set.
        vectors: (P, D) their unit mean directions.
        others: (Q,) people of the second set.
        other_vectors: (Q, D) their unit mean directions.
        at_least: Least cosine similarity.

    Returns:
        The pairs, the most similar first.

    Raises:
        ValueError: The embeddings are of different widths.
    """
    if vectors.shape[1] != other_vectors.shape[1]:
        raise ValueError(f"embeddings with {vectors.shape[1]} and {other_vectors.shape[1]} numbers; use one face pack")
    return _matches(cross_pairs(vectors, other_vectors, at_least), names, others)


def match_splits(names: Sequence[str], vectors: Vectors, splits: Sequence[str], at_least: float) -> list[Match]:
    """Find pairs of similar people who are in different splits.

    Args:
        names: (P,) people.
        vectors: (P, D) their unit mean directions.
        splits: (P,) their splits.
        at_least: Least cosine similarity.

    Returns:
        The pairs, the most similar first.
    """
    found: list[Match] = []
    kinds = sorted(set(splits))
    rows = {kind: np.flatnonzero(np.asarray(splits) == kind) for kind in kinds}
    for number, kind in enumerate(kinds):
        for other in kinds[number + 1 :]:
            pairs = cross_pairs(vectors[rows[kind]], vectors[rows[other]], at_least)
            found += _matches(pairs, *([names[i] for i in rows[k].tolist()] for k in (kind, other)))
    return sorted(found, key=lambda match: (-match.similarity, match.one, match.other))


def _nearest_only(pairs: Pairs) -> Pairs:
    """Keep the pairs in which one row is the nearest to the other."""
    row, at = np.concatenate([pairs.i, pairs.j]), np.tile(np.arange(len(pairs.i)), 2)
    order = np.lexsort((at, -pairs.similarity[at], row))
    _, first = np.unique(row[order], return_index=True)
    keep = np.unique(at[order[first]])
    return Pairs(pairs.i[keep], pairs.j[keep], pairs.similarity[keep])


def _matches(pairs: Pairs, names: Sequence[str], others: Sequence[str]) -> list[Match]:
    columns = (pairs.i.tolist(), pairs.j.tolist(), pairs.similarity.tolist())
    found = [Match(names[i], others[j], round(similarity, 4)) for i, j, similarity in zip(*columns, strict=True)]
    return sorted(found, key=lambda match: (-match.similarity, match.one, match.other))
