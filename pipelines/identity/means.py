"""Mean embeddings of tracks, and the agreement of their faces."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipelines.identity.constraints import Vectors

_TRACKS = 2048
"""Number of tracks whose means are computed at once."""


def agreement(track_ids: pa.ChunkedArray, vectors: Vectors) -> npt.NDArray[np.float32]:
    """Compare each face with the other faces of its track.

    Args:
        track_ids: (N,) track of each face.
        vectors: (N, D) unit embedding of each face.

    Returns:
        (N,) cosine similarity of each face with the mean of its track's other faces; NaN if there are none.
    """
    found = np.full(len(track_ids), np.nan, np.float32)
    for tracks in _tracks_by_size(track_ids):
        if tracks.shape[1] == 1:
            continue
        own = np.asarray(vectors)[tracks].astype(np.float64)
        others = own.sum(axis=1, keepdims=True) - own
        length = np.linalg.norm(others, axis=2)
        found[tracks] = np.round((own * others).sum(axis=2) / np.maximum(length, 1e-12), 4)
    return found


def track_means(
    track_ids: Sequence[str], vectors: Vectors, weights: npt.ArrayLike, best: int = 3, min_similarity: float = 0.4
) -> tuple[list[str], Vectors]:
    """Compute one embedding per track: the mean of its best faces.

    Faces less similar to the track's most typical face than ``min_similarity`` are left out: if a track jumped from one
    person to another, the person with more faces counts.

    Args:
        track_ids: (N,) track of each face.
        vectors: (N, D) unit embedding of each face.
        weights: (N,) weight of each face; faces of weight 0 or less are left out, and tracks without other faces, too.
        best: Upper bound on the number of faces to average; those with the highest weights are taken.
        min_similarity: Least cosine similarity to the track's most typical face.

    Returns:
        (ids, means): T ids of tracks, ascending, and (T, D) unit vectors.
    """
    worth, names = np.asarray(weights, np.float64), np.asarray(track_ids, dtype=str)
    usable = np.flatnonzero(worth > 0)
    ids, owner, counts = np.unique(names[usable], return_inverse=True, return_counts=True)
    faces = usable[np.argsort(owner, kind="stable")]  # grouped by track, in the given order within a track
    first = np.cumsum(counts) - counts
    means = np.empty((len(ids), np.shape(vectors)[-1]), np.float32)
    for n_faces in np.unique(counts).tolist():
        every = np.flatnonzero(counts == n_faces)
        for at in range(0, len(every), _TRACKS):
            tracks = every[at : at + _TRACKS]
            rows = faces[first[tracks, None] + np.arange(n_faces)]
            means[tracks] = _means_of(np.asarray(vectors)[rows].astype(np.float64), worth[rows], best, min_similarity)
    return ids.tolist(), means


def _means_of(
    unit: npt.NDArray[np.float64], worth: npt.NDArray[np.float64], best: int, min_similarity: float
) -> npt.NDArray[np.float64]:
    """Return (T, D) unit means of T tracks with F faces each, from (T, F, D) vectors and (T, F) weights."""
    similarity = unit @ unit.transpose(0, 2, 1)
    typical = np.argmax(np.round(np.median(similarity, axis=2), 4), axis=1)
    near = similarity[np.arange(len(unit)), typical] >= min_similarity
    chosen = np.argsort(np.where(near, -worth, np.inf), axis=1, kind="stable")[:, :best]
    counted = np.take_along_axis(near, chosen, 1)[..., None]
    sums = (np.take_along_axis(unit, chosen[..., None], 1) * counted).sum(axis=1)
    return np.round(sums / np.linalg.norm(sums, axis=1, keepdims=True), 6)


def _tracks_by_size(track_ids: pa.ChunkedArray) -> Iterator[npt.NDArray[np.int64]]:
    """Yield (T, F) row numbers of the faces of up to ``_TRACKS`` tracks with F faces each, in the order of the rows."""
    codes = track_ids.combine_chunks().dictionary_encode().indices.to_numpy(zero_copy_only=False)
    rows, counts = np.argsort(codes, kind="stable"), np.bincount(codes)
    first = np.cumsum(counts) - counts
    for n_faces in np.unique(counts).tolist():
        every = np.flatnonzero(counts == n_faces)
        for at in range(0, len(every), _TRACKS):
            yield rows[first[every[at : at + _TRACKS], None] + np.arange(n_faces)]
