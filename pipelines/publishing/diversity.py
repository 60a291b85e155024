"""How much the chosen faces of a person differ, against as many drawn at random."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from mfhq.ids import seed_of
from mfhq.schema import DIVERSITY
from pipelines.publishing.face_selection import Floats, Looks, faces_of_people

DRAWS = 100
MOST_SAMPLED = 64
"""Faces of one person that are drawn from: the first by id, and ids are hashes."""


def diversity_table(faces: pa.Table, identity_of: Mapping[str, str], chosen: pa.Table) -> pa.Table:
    """``diversity``: a row for each person of whom two faces or more are chosen.

    Args:
        faces: after the preset's thresholds; those that are ok are drawn from.
        identity_of: track to person.
        chosen: ``identity_faces``.
    """
    ids_of: defaultdict[str, list[str]] = defaultdict(list)
    for identity, face in zip(chosen["identity_id"].to_pylist(), chosen["face_id"].to_pylist(), strict=True):
        ids_of[identity].append(face)
    rows = [
        {"identity_id": identity, **diversity(faces.take(pa.array(members)), ids_of[identity])}
        for identity, members in faces_of_people(faces, identity_of).items()
        if len(ids_of[identity]) > 1
    ]
    return pa.Table.from_pylist(rows, schema=DIVERSITY)


def diversity(faces: pa.Table, chosen: list[str]) -> dict[str, Any]:
    """The numbers of one person's row, from all faces that clear the thresholds and the ids of two or more chosen.

    The mean over all pairs of faces is what the mean over the pairs of k faces drawn at random is on average, for any
    k: each pair is as likely to be drawn. The distance to the nearest takes draws; their seed is the faces' ids.
    """
    faces, n = faces.sort_by("face_id"), len(chosen)
    ids = faces["face_id"].to_pylist()
    is_chosen, is_sampled = np.isin(ids, chosen), np.arange(len(ids)) < MOST_SAMPLED
    needed = np.flatnonzero(is_chosen | is_sampled)
    looks = Looks.of(faces.take(pa.array(needed)))
    distance = np.sqrt((looks.parts(np.arange(len(needed))) ** 2).sum(axis=0))
    places, pool = np.flatnonzero(is_chosen[needed]), np.flatnonzero(is_sampled[needed])
    order = np.random.default_rng(seed_of(ids[0])).random((DRAWS, len(pool))).argsort(axis=1)
    draws = pool[order[:, : min(n, len(pool))]]
    return {
        "n_good": len(ids),
        "n_chosen": n,
        "distance": _mean_of_pairs(distance, places),
        "distance_at_random": _mean_of_pairs(distance, pool),
        "nearest": _mean_to_nearest(distance, places[None]),
        "nearest_at_random": _mean_to_nearest(distance, draws),
    }


def _mean_of_pairs(distance: Floats, which: np.ndarray) -> float:
    """Mean distance of two different faces among these."""
    n = len(which)
    return round(float(distance[np.ix_(which, which)].sum()) / (n * (n - 1)), 4)


def _mean_to_nearest(distance: Floats, draws: np.ndarray) -> float:
    """Mean distance of a face to the nearest other of its draw; ``draws`` are (D, k) indices."""
    among = distance[draws[:, :, None], draws[:, None, :]]
    among[:, np.eye(draws.shape[1], dtype=bool)] = np.inf
    return round(float(among.min(axis=2).mean()), 4)
