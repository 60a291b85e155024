"""From the embeddings of faces to one for their track, and how far the faces agree."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Vectors = npt.NDArray[np.float32]

_TRACKS = 2048
"""Tracks whose means are made at once."""


def agreement(track_ids: Sequence[str], vectors: Vectors) -> npt.NDArray[np.float32]:
    """(N,) cosine similarity of each face with the mean of the others of its track; 1 where there are no others.

    ``track_ids`` (N) names the track of each face, ``vectors`` (N, D) its unit embedding.
    """
    found = np.ones(len(track_ids), np.float32)
    for members in _by_track(track_ids).values():
        own = np.asarray(vectors, np.float64)[members]
        others = own.sum(axis=0) - own
        length = np.linalg.norm(others, axis=1)
        if len(members) > 1:
            found[members] = np.round((own * others).sum(axis=1) / np.maximum(length, 1e-12), 4)
    return found


def track_means(
    track_ids: Sequence[str], vectors: Vectors, weights: npt.ArrayLike, best: int = 3, min_likeness: float = 0.4
) -> tuple[list[str], Vectors]:
    """(ids, means): one unit embedding (T, D) a track, the mean of its ``best`` faces by weight; ids ascending.

    ``weights`` (N,) is what each face is worth; faces of weight 0 or less are left out, and tracks with no others.
    Faces less alike to the track's most typical face than ``min_likeness`` (cosine similarity) are left out too: where
    a track went from one person to another, the one who is there longer counts.
    """
    worth, names = np.asarray(weights, np.float64), np.asarray(track_ids, dtype=str)
    usable = np.flatnonzero(worth > 0)
    ids, owner, counts = np.unique(names[usable], return_inverse=True, return_counts=True)
    faces = usable[np.argsort(owner, kind="stable")]  # those of a track together, in their order
    first = np.cumsum(counts) - counts
    means = np.empty((len(ids), np.shape(vectors)[-1]), np.float32)
    for n_faces in np.unique(counts).tolist():
        every = np.flatnonzero(counts == n_faces)
        for at in range(0, len(every), _TRACKS):
            tracks = every[at : at + _TRACKS]
            rows = faces[first[tracks, None] + np.arange(n_faces)]
            means[tracks] = _means_of(np.asarray(vectors)[rows].astype(np.float64), worth[rows], best, min_likeness)
    return ids.tolist(), means


def _means_of(
    unit: npt.NDArray[np.float64], worth: npt.NDArray[np.float64], best: int, min_likeness: float
) -> npt.NDArray[np.float64]:
    """(T, D) unit means of T tracks with F faces each, (T, F, D) and (T, F)."""
    likeness = unit @ unit.transpose(0, 2, 1)
    typical = np.argmax(np.round(np.median(likeness, axis=2), 4), axis=1)
    near = likeness[np.arange(len(unit)), typical] >= min_likeness
    chosen = np.argsort(np.where(near, -worth, np.inf), axis=1, kind="stable")[:, :best]
    counted = np.take_along_axis(near, chosen, 1)[..., None]
    sums = (np.take_along_axis(unit, chosen[..., None], 1) * counted).sum(axis=1)
    return np.round(sums / np.linalg.norm(sums, axis=1, keepdims=True), 6)


def _by_track(track_ids: Sequence[str]) -> dict[str, list[int]]:
    faces: dict[str, list[int]] = defaultdict(list)
    for i, track_id in enumerate(track_ids):
        faces[track_id].append(i)
    return faces
