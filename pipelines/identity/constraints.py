"""Cannot-link constraints between tracks that are visible at the same time in one video.

Such tracks show two people, unless the video shows one image twice (an inset, a mirror, a repeat).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Vectors = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]

_CHUNK = 65_536

MIN_COMMON_FRAMES = 3
"""Number of frames in which both tracks have a known pose; with fewer, their poses are not compared."""


@dataclass(frozen=True)
class TrackSpans:
    """Frame ranges of N tracks, column by column."""

    video: Integers
    """(N,) number of each track's video."""
    start: Integers
    """(N,) first frame."""
    end: Integers
    """(N,) one past the last frame."""
    poses: npt.NDArray[np.object_] | None = None
    """(N,) poses of each track's F faces, or None: (F, 4) float32, frame (ascending), yaw, pitch, roll in degrees."""

    def take(self, rows: Integers) -> TrackSpans:
        """Return the spans of some tracks, in the order of ``rows``."""
        poses = None if self.poses is None else self.poses[rows]
        return TrackSpans(self.video[rows], self.start[rows], self.end[rows], poses)


@dataclass(frozen=True, kw_only=True, slots=True)
class SameImage:
    """Limits within which two tracks that are visible together may be one person: an inset, a mirror or a repeat."""

    likeness: float = 0.75
    """Least cosine similarity of the two tracks."""
    turn_deg: float = 15.0
    """Largest difference of the two tracks' poses, in degrees, as the median over their common frames (``in_step``).

    In five clips with an inset of the clip itself, at two fifths of its size, mirrored or one second late, the
    difference was 1.6 to 4.7.
    """


SAME_IMAGE = SameImage()


def cannot_link_pairs(unit: Vectors, spans: TrackSpans, same: SameImage) -> Integers:
    """Find pairs of tracks that cannot be one person: visible together in one video, but not one image shown twice.

    Args:
        unit: (N, D) unit vectors of the tracks.
        spans: Frame ranges of the N tracks.
        same: Limits within which two such tracks may be one image shown twice.

    Returns:
        (P, 2) pairs of row numbers, i < j.
    """
    pairs = cooccurring_pairs(spans)
    similar = cosine_similarities(unit, pairs[:, 0], pairs[:, 1]) >= same.likeness
    if spans.poses is not None:
        for row in np.flatnonzero(similar).tolist():
            i, j = pairs[row]
            similar[row] = in_step(spans.poses[i], spans.poses[j], same.turn_deg)
    return pairs[~similar]


def in_step(one: Vectors | None, other: Vectors | None, most_deg: float) -> bool:
    """Return True if two faces turn together, straight or mirrored.

    Args:
        one: Poses of one track (``TrackSpans.poses``), or None.
        other: Poses of the other track, likewise.
        most_deg: Largest difference of the poses, in degrees, as the median over the common frames.

    Returns:
        True if they do, and also if the poses of both are known in fewer than ``MIN_COMMON_FRAMES`` frames, which
        contradict nothing.
    """
    if one is None or other is None:
        return True
    _, a, b = np.intersect1d(one[:, 0], other[:, 0], return_indices=True)
    if len(a) < MIN_COMMON_FRAMES:
        return True
    sides = np.array([[1, 1, 1], [-1, 1, -1]])  # in a mirror yaw and roll change sign
    differences = [np.median(np.abs(one[a, 1:] - other[b, 1:] * side).max(axis=1)) for side in sides]
    return bool(min(differences) <= most_deg)


def cooccurring_pairs(spans: TrackSpans) -> Integers:
    """Return (P, 2) pairs of row numbers, i < j, of tracks that share a frame of one video, ascending."""
    order = np.lexsort((spans.start, spans.video))
    video, start, end = spans.video[order], spans.start[order], spans.end[order]
    found = []
    candidates = np.arange(len(order))
    for ahead in range(1, len(order)):
        candidates = candidates[candidates < len(order) - ahead]
        after = candidates + ahead
        # starts ascend within a video: once one lies past a track's end, all later ones do
        candidates = candidates[(video[after] == video[candidates]) & (start[after] < end[candidates])]
        if not len(candidates):
            break
        found.append(np.stack([order[candidates], order[candidates + ahead]], axis=1))
    pairs = np.sort(np.concatenate(found), axis=1) if found else np.empty((0, 2), np.int64)
    return pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]


def cosine_similarities(
    unit: Vectors, i: npt.NDArray[np.integer], j: npt.NDArray[np.integer]
) -> npt.NDArray[np.float64]:
    """Return the cosine similarity of pairs of unit vectors, rounded to six decimals.

    Further decimals would depend on how the matrix product is blocked.

    Args:
        unit: (N, D) unit vectors.
        i: (P,) first row of each pair.
        j: (P,) second row of each pair.

    Returns:
        (P,) similarities.
    """
    found = np.empty(len(i))
    for at in range(0, len(i), _CHUNK):
        rows = slice(at, at + _CHUNK)
        found[rows] = np.einsum("nd,nd->n", unit[i[rows]], unit[j[rows]])
    return np.round(found, 6)
