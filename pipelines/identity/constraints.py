"""What time rules out: two tracks that are visible at once in one video show two people, or one picture twice."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Vectors = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]

_CHUNK = 65_536


@dataclass(frozen=True)
class Seen:
    """Where tracks are seen: three columns of N rows."""

    video: Integers
    """A number for each video."""
    start: Integers
    """First frame."""
    end: Integers
    """One past the last frame."""

    def take(self, rows: Integers) -> Seen:
        """Some of the rows, in that order."""
        return Seen(self.video[rows], self.start[rows], self.end[rows])


def apart_pairs(unit: Vectors, seen: Seen, same_picture: float) -> Integers:
    """(P, 2) rows i < j that cannot be one person: seen at once in one video, and less alike than ``same_picture``.

    Tracks that are in step and nearly identical (cosine similarity of ``same_picture`` or more) are an inset, a
    mirror or a repeat of one person, and are left open.
    """
    order = np.lexsort((seen.start, seen.video))
    video, start, end = seen.video[order], seen.start[order], seen.end[order]
    found = []
    candidates = np.arange(len(order))
    for ahead in range(1, len(order)):
        candidates = candidates[candidates < len(order) - ahead]
        after = candidates + ahead
        # starts ascend within a video: who is past the end of a track once stays past it
        candidates = candidates[(video[after] == video[candidates]) & (start[after] < end[candidates])]
        if not len(candidates):
            break
        found.append(np.stack([order[candidates], order[candidates + ahead]], axis=1))
    pairs = np.sort(np.concatenate(found), axis=1) if found else np.empty((0, 2), np.int64)
    alike = likeness_of(unit, pairs[:, 0], pairs[:, 1])
    pairs = pairs[alike < same_picture]
    return pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]


def likeness_of(unit: Vectors, i: npt.NDArray[np.integer], j: npt.NDArray[np.integer]) -> npt.NDArray[np.float64]:
    """(P,) inner product of rows i and j of vectors (N, D), to six decimals: the rest depends on the blocking."""
    found = np.empty(len(i))
    for at in range(0, len(i), _CHUNK):
        rows = slice(at, at + _CHUNK)
        found[rows] = np.einsum("nd,nd->n", unit[i[rows]], unit[j[rows]])
    return np.round(found, 6)
