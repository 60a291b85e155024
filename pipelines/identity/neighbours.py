"""Pairs of vectors that are near each other, inside one block: exact, by matrix products, tile by tile."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

Vectors = npt.NDArray[np.float32]

NEAREST = 8
"""Neighbours of a vector that a block reports; more only as far as the block would fall apart without them."""

_TILE, _TILE_COLUMNS = 256, 4096
"""Rows and columns of a matrix product: small enough to stay in a core's cache while it is compared."""


@dataclass(frozen=True)
class Pairs:
    """Pairs of rows (i < j) that may be one person's."""

    i: npt.NDArray[np.int32]
    j: npt.NDArray[np.int32]
    likeness: npt.NDArray[np.float32]
    """Cosine similarity, as far as the search knows it."""

    @classmethod
    def none(cls) -> Pairs:
        """No pairs."""
        return cls(np.empty(0, np.int32), np.empty(0, np.int32), np.empty(0, np.float32))

    @classmethod
    def joined(cls, parts: list[Pairs]) -> Pairs:
        """All pairs of several."""
        if not parts:
            return cls.none()
        i, j, likeness = (np.concatenate([getattr(p, name) for p in parts]) for name in ("i", "j", "likeness"))
        return cls(i, j, likeness)


def near_pairs(vectors: Vectors, at_least: float, nearest: int = NEAREST) -> Pairs:
    """Pairs of unit vectors (N, d) with a cosine similarity of ``at_least`` or more: the ``nearest`` of each row among
    those after it, and whatever else it takes to leave connected what all such pairs connect.
    """
    return _search(vectors, vectors, at_least, nearest, after=True)


def cross_pairs(rows: Vectors, columns: Vectors, at_least: float, nearest: int = NEAREST) -> Pairs:
    """The same for pairs of a row i of one (N, d) and a row j of another (M, d)."""
    return _search(rows, columns, at_least, nearest, after=False)


def _search(rows: Vectors, columns: Vectors, at_least: float, nearest: int, after: bool) -> Pairs:
    likeness, near = np.empty(_TILE * _TILE_COLUMNS, np.float32), np.empty(_TILE * _TILE_COLUMNS, bool)
    parts = []
    for start in range(0, len(rows), _TILE):
        stop = min(start + _TILE, len(rows))
        found = []
        for left in range(start if after else 0, len(columns), _TILE_COLUMNS):
            right = min(left + _TILE_COLUMNS, len(columns))
            shape, size = (stop - start, right - left), (stop - start) * (right - left)
            np.matmul(rows[start:stop], columns[left:right].T, out=likeness[:size].reshape(shape))
            hits = np.flatnonzero(np.greater_equal(likeness[:size], at_least, out=near[:size]))
            i, j = np.divmod(hits, right - left)
            i, j, value = i + start, j + left, likeness[hits]
            own = i < j if after else slice(None)
            found.append((i[own], j[own], value[own]))
        if found:
            i, j, value = (np.concatenate(part) for part in zip(*found, strict=True))
            chosen = _capped(i, j if after else j + len(rows), value, nearest)
            parts.append(Pairs(i[chosen].astype(np.int32), j[chosen].astype(np.int32), value[chosen]))
    return Pairs.joined(parts)


def _capped(
    i: npt.NDArray[np.int64], j: npt.NDArray[np.int64], likeness: Vectors, nearest: int
) -> npt.NDArray[np.int64]:
    """Which pairs are the nearest of each row, or one of the few more without which a connected group would be torn."""
    counts = np.bincount(i) if len(i) else np.empty(0, np.int64)
    if not len(i) or counts.max() <= nearest:
        return np.lexsort((j, i))
    order = np.lexsort((j, -likeness, i))
    rank = np.arange(len(i)) - np.repeat(np.cumsum(counts) - counts, counts)
    kept = order[rank < nearest]
    return np.concatenate([kept, _torn(i, j, kept)])


def _torn(i: npt.NDArray[np.int64], j: npt.NDArray[np.int64], kept: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Indices of pairs that join what the kept ones leave apart, though all pairs together connect it."""
    n = int(j.max()) + 1
    _, label = connected_components(_graph(i[kept], j[kept], n), directed=False)
    across = np.flatnonzero(label[i] != label[j])
    low, high = np.minimum(label[i[across]], label[j[across]]), np.maximum(label[i[across]], label[j[across]])
    _, first = np.unique(low.astype(np.int64) * n + high, return_index=True)
    return across[first]


def _graph(i: npt.NDArray[np.int64], j: npt.NDArray[np.int64], n: int) -> coo_array:
    return coo_array((np.ones(len(i), np.int8), (i, j)), shape=(n, n))
