"""Incremental clustering: new tracks join known or new people, at a cost that grows with the number of new tracks."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from threadpoolctl import threadpool_limits

from pipelines.identity.constraints import SAME_IMAGE, Integers, SameImage, TrackSpans, Vectors, cannot_link_pairs
from pipelines.identity.linkage import EXACT, agglomerate, projected_threshold
from pipelines.identity.neighbours import Pairs, cross_pairs, make_partition, near_pairs

MAX_NEW_TRACKS = EXACT
"""Upper bound on the new tracks that join known people; if there are more, all tracks are clustered anew."""

_CHUNK = 8192


@dataclass(frozen=True)
class People:
    """Known people: for each of P people, the sum of their tracks' unit vectors."""

    label: Integers
    """(P,) label of each person's tracks, ascending."""
    sums: Vectors
    """(P, D) sum of the unit vectors of each person's tracks. Biometric data."""
    sizes: Integers
    """(P,) number of tracks of each person."""


def sum_people(unit: Vectors, label: Integers) -> People:
    """Sum the vectors of each person.

    Args:
        unit: (N, D) unit vectors of tracks.
        label: (N,) label of each track's person.
    """
    order = np.argsort(label, kind="stable")
    which, first, sizes = np.unique(label[order], return_index=True, return_counts=True)
    sums = np.empty((len(which), unit.shape[1]), np.float32)
    for at in range(0, len(which), 65_536):
        stop = min(at + 65_536, len(which))
        rows = order[first[at] : (first[stop] if stop < len(which) else len(order))]
        sums[at:stop] = np.add.reduceat(unit[rows], first[at:stop] - first[at], axis=0)
    return People(which, sums, sizes)


def join_new(
    people: People,
    label: Integers,
    fresh: Vectors,
    spans: TrackSpans,
    threshold: float,
    same: SameImage = SAME_IMAGE,
) -> Integers:
    """Assign new tracks to known people, or to new ones.

    The new tracks and the people near them are clustered by average linkage. Known people are never merged or split;
    only clustering all tracks anew does that. The vectors of old tracks are not read: for the cannot-link constraints,
    the mean of the person stands for an old track that is visible together with a new one.

    Args:
        people: The known people.
        label: (N,) label of each old track: one of ``people.label``, and less than N.
        fresh: (M, D) unit vectors of the new tracks.
        spans: Frame ranges of all N + M tracks, the old ones first.
        threshold: Cosine distance below which two groups are one person.
        same: Limits within which two tracks that are visible together may be one person.

    Returns:
        (N + M,) labels of all tracks; a new person's label is their lowest row.
    """
    n, known = len(label), len(people.label)
    group = np.concatenate([np.searchsorted(people.label, label), known + np.arange(len(fresh))])
    pairs = _candidates(people, fresh, 1 - threshold)
    around = np.flatnonzero(np.isin(spans.video, np.unique(spans.video[n:])))
    units = _units(people, fresh, group[around])
    cannot_link = group[around[cannot_link_pairs(units, spans.take(around), same)]]
    near = np.unique(np.concatenate([pairs.i, pairs.j, np.arange(known, known + len(fresh))]))
    cannot_link = cannot_link[(cannot_link[:, 0] != cannot_link[:, 1]) & np.isin(cannot_link, near).all(axis=1)]
    old = near[near < known]
    root = agglomerate(
        np.concatenate([people.sums[old], fresh]),
        np.concatenate([people.sizes[old], np.ones(len(fresh), np.int64)]),
        np.searchsorted(near, pairs.i),
        np.searchsorted(near, pairs.j),
        np.searchsorted(near, cannot_link),
        1 - threshold,
        frozen=near < known,
    )
    merged = np.concatenate([people.label, n + np.arange(len(fresh))])
    merged[near] = merged[near[root]]
    return merged[group]


def _units(people: People, fresh: Vectors, group: Integers) -> Vectors:
    """Return the unit vectors of groups: the mean direction of a person, or the vector of a new track."""
    known = len(people.label)
    found = np.empty((len(group), fresh.shape[1]), np.float32)
    found[group < known] = people.sums[group[group < known]]
    found[group >= known] = fresh[group[group >= known] - known]
    return found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-9)


def _candidates(people: People, fresh: Vectors, at_least: float) -> Pairs:
    """Return the near pairs (i < j) with at least one new track; rows are numbered people first, then new tracks."""
    known = len(people.label)
    if not known:
        return near_pairs(fresh, at_least)
    partition = make_partition(np.concatenate([people.sums[: 4 * _CHUNK], fresh]), 1, seed=0)
    projected, least = partition.project(fresh), projected_threshold(partition, at_least)

    def search(start: int) -> Pairs:
        rows = partition.project(people.sums[start : start + _CHUNK])
        found = cross_pairs(rows, projected, least)
        return Pairs(found.i + np.int32(start), found.j + np.int32(known), found.similarity)

    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(os.cpu_count()) as pool:
        among = near_pairs(projected, least)
        parts = [*pool.map(search, range(0, known, _CHUNK))]
    parts.append(Pairs(among.i + np.int32(known), among.j + np.int32(known), among.similarity))
    return Pairs.joined(parts)
