"""Diversity of the faces chosen for a person, compared with the same number of random faces."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mfhq.ids import seed_of
from pipelines.publishing.face_selection import Bools, Floats, PeopleBatch

DRAWS = 100
"""Number of random draws over which the distance to the nearest face is averaged."""
MOST_SAMPLED = 64
"""Upper bound on the faces of one person to draw from: those with the lowest ids, which are hashes."""


def measure_diversity(batch: PeopleBatch, is_chosen: Bools, lowest_ids: Sequence[str]) -> dict[str, Floats]:
    """Measure the diversity of the chosen faces of each person.

    The mean distance over all pairs of faces equals the expected mean over the pairs of k random faces, for any k,
    since all pairs are equally likely; so it needs no random draws. The distance to the nearest face is averaged over
    draws, seeded by the lowest face id.

    Args:
        batch: Ok faces of B people in the order of their ids, among them those with the ``MOST_SAMPLED`` lowest.
        is_chosen: (B, n) True for the chosen faces, two or more a person.
        lowest_ids: (B,) lowest face id of each person.

    Returns:
        The metrics of ``mfhq.schema.DIVERSITY`` by name, (B,) each.
    """
    is_sampled = np.broadcast_to(np.arange(is_chosen.shape[1]) < MOST_SAMPLED, is_chosen.shape)
    reference = (batch.has_mesh & (is_chosen | is_sampled)).argmax(axis=1)
    distance = np.sqrt((batch.differences(reference) ** 2).sum(axis=0))
    nearest_at_random = _mean_to_nearest(distance, is_sampled)
    n_chosen, n_sampled = is_chosen.sum(axis=1), is_sampled.sum(axis=1)
    for person in np.flatnonzero(n_chosen < n_sampled).tolist():  # otherwise each draw is all of them
        order = np.random.default_rng(seed_of(lowest_ids[person])).random((DRAWS, n_sampled[person])).argsort(axis=1)
        drawn = order[:, : n_chosen[person]]
        within = distance[person][drawn[:, :, None], drawn[:, None, :]]
        within[:, np.eye(drawn.shape[1], dtype=bool)] = np.inf
        nearest_at_random[person] = within.min(axis=2).mean()
    found = {
        "distance": _mean_of_pairs(distance, is_chosen),
        "distance_at_random": _mean_of_pairs(distance, is_sampled),
        "nearest": _mean_to_nearest(distance, is_chosen),
        "nearest_at_random": nearest_at_random,
    }
    return {name: np.round(values, 4) for name, values in found.items()}


def _mean_of_pairs(distance: Floats, among: Bools) -> Floats:
    """Return the (B,) mean distances of two different faces among these."""
    pairs = among[:, :, None] & among[:, None, :]
    n = among.sum(axis=1)
    return np.where(pairs, distance, 0).sum(axis=(1, 2)) / (n * (n - 1))


def _mean_to_nearest(distance: Floats, among: Bools) -> Floats:
    """Return the (B,) mean distances of a face to the nearest other face among these."""
    others = among[:, :, None] & among[:, None, :] & ~np.eye(among.shape[1], dtype=bool)
    nearest = np.where(others, distance, np.inf).min(axis=2)
    return np.where(among, nearest, 0).sum(axis=1) / among.sum(axis=1)
