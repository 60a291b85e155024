"""What time rules out: two tracks that are visible at once in one video show two people, or one picture twice."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Vectors = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]

_CHUNK = 65_536

LEAST_MOMENTS = 3
"""Frames of both tracks with a known pose, from which on they can be out of step."""


@dataclass(frozen=True)
class TrackSpans:
    """Where tracks are seen: columns of N rows."""

    video: Integers
    """A number for each video."""
    start: Integers
    """First frame."""
    end: Integers
    """One past the last frame."""
    poses: npt.NDArray[np.object_] | None = None
    """Of each track None, or (F, 4) float32 of F faces: frame, yaw, pitch and roll in degrees; frames ascending."""

    def take(self, rows: Integers) -> TrackSpans:
        """Some of the rows, in that order."""
        poses = None if self.poses is None else self.poses[rows]
        return TrackSpans(self.video[rows], self.start[rows], self.end[rows], poses)


@dataclass(frozen=True, kw_only=True, slots=True)
class SamePicture:
    """When two tracks that are seen at once may be one person: in an inset, a mirror or a repeat."""

    likeness: float = 0.75
    """They are nearly identical: cosine similarity ..."""
    turn_deg: float = 15.0
    """... and in step: degrees by which their poses may differ in the median frame (``in_step``). Of five clips with an
    inset of themselves at two fifths of the size, mirrored or a second late, they differed by 1.6 to 4.7."""


SAME_PICTURE = SamePicture()


def apart_pairs(unit: Vectors, seen: TrackSpans, same: SamePicture) -> Integers:
    """(P, 2) rows i < j that cannot be one person: seen at once in one video, and not the same picture twice."""
    pairs = seen_at_once(seen)
    alike = likeness_of(unit, pairs[:, 0], pairs[:, 1]) >= same.likeness
    if seen.poses is not None:
        for row in np.flatnonzero(alike).tolist():
            i, j = pairs[row]
            alike[row] = in_step(seen.poses[i], seen.poses[j], same.turn_deg)
    return pairs[~alike]


def in_step(one: Vectors | None, other: Vectors | None, most_deg: float) -> bool:
    """Whether two faces (see ``TrackSpans.poses``) turn together, straight or mirrored: their poses differ by at most so many
    degrees in the median frame. Where too few frames know of both, nothing speaks against it."""
    if one is None or other is None:
        return True
    _, a, b = np.intersect1d(one[:, 0], other[:, 0], return_indices=True)
    if len(a) < LEAST_MOMENTS:
        return True
    sides = np.array([[1, 1, 1], [-1, 1, -1]])  # in a mirror yaw and roll change sign
    off = [np.median(np.abs(one[a, 1:] - other[b, 1:] * side).max(axis=1)) for side in sides]
    return bool(min(off) <= most_deg)


def seen_at_once(seen: TrackSpans) -> Integers:
    """(P, 2) rows i < j that share a frame of one video, ascending."""
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
    return pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]


def likeness_of(unit: Vectors, i: npt.NDArray[np.integer], j: npt.NDArray[np.integer]) -> npt.NDArray[np.float64]:
    """(P,) inner product of rows i and j of vectors (N, D), to six decimals: the rest depends on the blocking."""
    found = np.empty(len(i))
    for at in range(0, len(i), _CHUNK):
        rows = slice(at, at + _CHUNK)
        found[rows] = np.einsum("nd,nd->n", unit[i[rows]], unit[j[rows]])
    return np.round(found, 6)
