"""From the embeddings of faces to one for their track, and how far the faces agree."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Vectors = npt.NDArray[np.float32]


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
    unit = np.asarray(vectors, np.float64)
    worth = np.asarray(weights, np.float64)
    faces = _by_track(track_ids)
    ids, means = [], []
    for track_id in sorted(faces):
        usable = [i for i in faces[track_id] if worth[i] > 0]
        if not usable:
            continue
        likeness = unit[usable] @ unit[usable].T
        typical = int(np.argmax(np.round(np.median(likeness, axis=1), 4)))
        alike = [i for i, near in zip(usable, likeness[typical], strict=True) if near >= min_likeness]
        mean = unit[sorted(alike, key=lambda i: -worth[i])[:best]].mean(axis=0)
        ids.append(track_id)
        means.append(np.round(mean / np.linalg.norm(mean), 6))
    return ids, np.asarray(means, np.float32).reshape(len(ids), unit.shape[-1])


def _by_track(track_ids: Sequence[str]) -> dict[str, list[int]]:
    faces: dict[str, list[int]] = defaultdict(list)
    for i, track_id in enumerate(track_ids):
        faces[track_id].append(i)
    return faces
