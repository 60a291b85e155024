"""Diversity of the faces chosen for a person, compared with the same number of random faces."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from mfhq.ids import seed_of
from mfhq.schema import DIVERSITY
from pipelines.publishing.face_selection import FaceFeatures, Floats, faces_of_people

DRAWS = 100
"""Number of random draws over which the distance to the nearest face is averaged."""
MOST_SAMPLED = 64
"""Upper bound on the faces of one person to draw from: those with the lowest ids, which are hashes."""


def diversity_table(faces: pa.Table, identity_of: Mapping[str, str], chosen: pa.Table) -> pa.Table:
    """Build the table ``diversity``: one row per person with at least two chosen faces.

    Args:
        faces: ``mfhq.schema.FACES`` rows after the preset's thresholds; random faces are drawn from the ok ones.
        identity_of: Track to person.
        chosen: ``mfhq.schema.IDENTITY_FACES`` rows.
    """
    ids_of: defaultdict[str, list[str]] = defaultdict(list)
    for identity, face in zip(chosen["identity_id"].to_pylist(), chosen["face_id"].to_pylist(), strict=True):
        ids_of[identity].append(face)
    rows = [
        {"identity_id": identity, **measure_diversity(faces.take(pa.array(members)), ids_of[identity])}
        for identity, members in faces_of_people(faces, identity_of).items()
        if len(ids_of[identity]) > 1
    ]
    return pa.Table.from_pylist(rows, schema=DIVERSITY)


def measure_diversity(faces: pa.Table, chosen: list[str]) -> dict[str, Any]:
    """Measure the diversity of one person's chosen faces.

    The mean distance over all pairs of faces equals the expected mean over the pairs of k random faces, for any k,
    since all pairs are equally likely; so it needs no random draws. The distance to the nearest face is averaged over
    draws, seeded by the lowest face id.

    Args:
        faces: All ok faces of the person, ``mfhq.schema.FACES``.
        chosen: Ids of two or more of them.

    Returns:
        The metrics of a row of ``mfhq.schema.DIVERSITY``.
    """
    faces, n = faces.sort_by("face_id"), len(chosen)
    ids = faces["face_id"].to_pylist()
    is_chosen, is_sampled = np.isin(ids, chosen), np.arange(len(ids)) < MOST_SAMPLED
    needed = np.flatnonzero(is_chosen | is_sampled)
    features = FaceFeatures.of(faces.take(pa.array(needed)))
    distance = np.sqrt((features.weighted_differences(np.arange(len(needed))) ** 2).sum(axis=0))
    chosen_rows, sampled_rows = np.flatnonzero(is_chosen[needed]), np.flatnonzero(is_sampled[needed])
    order = np.random.default_rng(seed_of(ids[0])).random((DRAWS, len(sampled_rows))).argsort(axis=1)
    draws = sampled_rows[order[:, : min(n, len(sampled_rows))]]
    return {
        "n_good": len(ids),
        "n_chosen": n,
        "distance": _mean_of_pairs(distance, chosen_rows),
        "distance_at_random": _mean_of_pairs(distance, sampled_rows),
        "nearest": _mean_to_nearest(distance, chosen_rows[None]),
        "nearest_at_random": _mean_to_nearest(distance, draws),
    }


def _mean_of_pairs(distance: Floats, rows: np.ndarray) -> float:
    """Return the mean distance of two different faces among these rows."""
    n = len(rows)
    return round(float(distance[np.ix_(rows, rows)].sum()) / (n * (n - 1)), 4)


def _mean_to_nearest(distance: Floats, draws: np.ndarray) -> float:
    """Return the mean distance of a face to the nearest other face of its draw; ``draws`` holds (D, k) row numbers."""
    within_draw = distance[draws[:, :, None], draws[:, None, :]]
    within_draw[:, np.eye(draws.shape[1], dtype=bool)] = np.inf
    return round(float(within_draw.min(axis=2).mean()), 4)
