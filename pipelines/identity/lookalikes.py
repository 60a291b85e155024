"""Who looks like whom, by the cosine similarity of mean embeddings: inside a set, across splits, in two sets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from pipelines.identity.constraints import Vectors, likeness_of
from pipelines.identity.incremental import people_of
from pipelines.identity.linkage import alike_pairs
from pipelines.identity.neighbours import Pairs, cross_pairs

_FLOORS = (0.5, 0.25, -1.0)
"""Cosine similarities from which lookalikes are sought, one after the other until there are enough: in a large set a
lower one finds pairs by the million."""


@dataclass(frozen=True)
class Match:
    """Two entries that look like one person."""

    one: str
    other: str
    likeness: float
    """Cosine similarity of their mean directions."""


def centres(owner: Sequence[str], vectors: Vectors) -> tuple[list[str], Vectors]:
    """(people, (P, D) unit mean directions) of unit vectors (N, D) with an owner each; people ascending."""
    if not len(owner):
        return [], np.asarray(vectors, np.float32)
    names, label = np.unique(np.asarray(owner, dtype=str), return_inverse=True)
    sums = people_of(vectors, label).sums
    return names.tolist(), sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-9)


def most_alike(names: Sequence[str], vectors: Vectors, wanted: int) -> list[Match]:
    """Pairs of people of whom one is the other's nearest, the most alike first; ``wanted`` at least, where there are.

    Args:
        names: (P,) people.
        vectors: (P, D) their unit mean directions.
        wanted: pairs.
    """
    found: list[Match] = []
    for floor in _FLOORS:
        pairs = alike_pairs(vectors, floor)
        exact = replace(pairs, likeness=likeness_of(vectors, pairs.i, pairs.j).astype(np.float32))
        found = _matches(_nearest_only(exact), names, names)
        if len(found) >= wanted:
            break
    return found


def in_both(
    names: Sequence[str], vectors: Vectors, others: Sequence[str], other_vectors: Vectors, at_least: float
) -> list[Match]:
    """People of one set who are as alike as ``at_least`` to somebody of the other, the most alike first.

    Raises:
        ValueError: the embeddings are of different widths.
    """
    if vectors.shape[1] != other_vectors.shape[1]:
        raise ValueError(f"embeddings with {vectors.shape[1]} and {other_vectors.shape[1]} numbers; use one face pack")
    return _matches(cross_pairs(vectors, other_vectors, at_least), names, others)


def across_splits(names: Sequence[str], vectors: Vectors, splits: Sequence[str], at_least: float) -> list[Match]:
    """People who are as alike as ``at_least`` to somebody in another split, the most alike first."""
    found: list[Match] = []
    kinds = sorted(set(splits))
    rows = {kind: np.flatnonzero(np.asarray(splits) == kind) for kind in kinds}
    for number, kind in enumerate(kinds):
        for other in kinds[number + 1 :]:
            pairs = cross_pairs(vectors[rows[kind]], vectors[rows[other]], at_least)
            found += _matches(pairs, *([names[i] for i in rows[k].tolist()] for k in (kind, other)))
    return sorted(found, key=lambda match: (-match.likeness, match.one, match.other))


def _nearest_only(pairs: Pairs) -> Pairs:
    """Those that are the nearest of one of their two rows."""
    row, at = np.concatenate([pairs.i, pairs.j]), np.tile(np.arange(len(pairs.i)), 2)
    order = np.lexsort((at, -pairs.likeness[at], row))
    _, first = np.unique(row[order], return_index=True)
    keep = np.unique(at[order[first]])
    return Pairs(pairs.i[keep], pairs.j[keep], pairs.likeness[keep])


def _matches(pairs: Pairs, names: Sequence[str], others: Sequence[str]) -> list[Match]:
    columns = (pairs.i.tolist(), pairs.j.tolist(), pairs.likeness.tolist())
    found = [Match(names[i], others[j], round(likeness, 4)) for i, j, likeness in zip(*columns, strict=True)]
    return sorted(found, key=lambda match: (-match.likeness, match.one, match.other))
