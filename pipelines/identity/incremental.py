"""New tracks join people who are there, or are new people, at a cost that goes with what is new."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from threadpoolctl import threadpool_limits

from pipelines.identity.constraints import SAME_PICTURE, Integers, SamePicture, TrackSpans, Vectors, apart_pairs
from pipelines.identity.linkage import EXACT, agglomerate, projected_threshold
from pipelines.identity.neighbours import Pairs, cross_pairs, make_partition, near_pairs

MOST_NEW = EXACT
"""New tracks up to which they join; with more, everything is clustered anew."""

_CHUNK = 8192


@dataclass(frozen=True)
class People:
    """Who is there: for each of P people the sum of their tracks' unit vectors."""

    label: Integers
    """(P,) ascending: the label of the person's tracks."""
    sums: Vectors
    """(P, D). Biometric data."""
    sizes: Integers
    """(P,) tracks."""


def people_of(unit: Vectors, label: Integers) -> People:
    """The people of a clustering: unit vectors (N, D) and their labels (N,)."""
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
    seen: TrackSpans,
    threshold: float,
    same: SamePicture = SAME_PICTURE,
) -> Integers:
    """(N + M,) labels once M new tracks are there, new people's labels being their lowest row.

    Average linkage among the new tracks and the people near them. People who are there are never merged, nor split:
    clustering everything does that. A new track is held against the mean of the people who are seen beside it in an
    old video, since the tracks' own vectors are not read.

    Args:
        people: who is there.
        label: (N,) label of each old track, one of ``people.label``; below N.
        fresh: (M, D) unit vectors of the new tracks.
        seen: where all N + M tracks are seen, the old ones first.
        threshold, same: as in ``cluster_rows``.
    """
    n, known = len(label), len(people.label)
    group = np.concatenate([np.searchsorted(people.label, label), known + np.arange(len(fresh))])
    pairs = _candidates(people, fresh, 1 - threshold)
    around = np.flatnonzero(np.isin(seen.video, np.unique(seen.video[n:])))
    units = _units(people, fresh, group[around])
    apart = group[around[apart_pairs(units, seen.take(around), same)]]
    near = np.unique(np.concatenate([pairs.i, pairs.j, np.arange(known, known + len(fresh))]))
    apart = apart[(apart[:, 0] != apart[:, 1]) & np.isin(apart, near).all(axis=1)]
    old = near[near < known]
    root = agglomerate(
        np.concatenate([people.sums[old], fresh]),
        np.concatenate([people.sizes[old], np.ones(len(fresh), np.int64)]),
        np.searchsorted(near, pairs.i),
        np.searchsorted(near, pairs.j),
        np.searchsorted(near, apart),
        1 - threshold,
        frozen=near < known,
    )
    merged = np.concatenate([people.label, n + np.arange(len(fresh))])
    merged[near] = merged[near[root]]
    return merged[group]


def _units(people: People, fresh: Vectors, group: Integers) -> Vectors:
    """Unit vectors of groups: a person's mean direction, or the new track."""
    known = len(people.label)
    found = np.empty((len(group), fresh.shape[1]), np.float32)
    found[group < known] = people.sums[group[group < known]]
    found[group >= known] = fresh[group[group >= known] - known]
    return found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-9)


def _candidates(people: People, fresh: Vectors, at_least: float) -> Pairs:
    """Near pairs (i < j) of which one at least is new; rows are the people, then the new tracks."""
    known = len(people.label)
    if not known:
        return near_pairs(fresh, at_least)
    partition = make_partition(np.concatenate([people.sums[: 4 * _CHUNK], fresh]), 1, seed=0)
    few, wanted = partition.project(fresh), projected_threshold(partition, at_least)

    def search(start: int) -> Pairs:
        rows = partition.project(people.sums[start : start + _CHUNK])
        found = cross_pairs(rows, few, wanted)
        return Pairs(found.i + np.int32(start), found.j + np.int32(known), found.likeness)

    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(os.cpu_count()) as pool:
        among = near_pairs(few, wanted)
        parts = [*pool.map(search, range(0, known, _CHUNK))]
    parts.append(Pairs(among.i + np.int32(known), among.j + np.int32(known), among.likeness))
    return Pairs.joined(parts)
