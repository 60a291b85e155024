"""Split the connected parts of a neighbour graph into people, by average linkage inside each."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import numpy.typing as npt
from scipy.cluster.hierarchy import ClusterNode, fcluster, linkage, to_tree
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial.distance import squareform

from pipelines.identity.agglomerate import agglomerate
from pipelines.identity.constraints import Integers, Vectors, likeness_of

APART = 2.0
"""The largest cosine distance: that of two tracks that cannot be one person."""

DENSE = 2048
"""Tracks up to which a part's matrix of all distances is made (32 MB); larger parts are merged over their graph."""


def split_parts(
    unit: Vectors, i: npt.NDArray[np.integer], j: npt.NDArray[np.integer], apart: Integers, threshold: float
) -> Integers:
    """(N,) label of each row: the people in a graph of near pairs (i, j), by average linkage cut at ``threshold``.

    ``apart`` (P, 2) are pairs that cannot be one person. Labels are the lowest row of each cluster.
    """
    n = len(unit)
    part = connected(n, i, j)
    label = np.arange(n)
    order = np.argsort(part, kind="stable")
    sizes = np.bincount(part)
    first = np.cumsum(sizes) - sizes
    inside = part[apart[:, 0]] == part[apart[:, 1]]
    apart_in: defaultdict[int, list[tuple[int, int]]] = defaultdict(list)
    for a, b in apart[inside].tolist():
        apart_in[int(part[a])].append((a, b))
    twos = np.flatnonzero(sizes == 2)
    _join_twos(unit, order[first[twos]], order[first[twos] + 1], twos, apart_in, threshold, label)
    for number in np.flatnonzero(sizes > 2):
        members = order[first[number] : first[number] + sizes[number]]
        if len(members) <= DENSE:
            label[members] = _split_dense(members, unit, apart_in.get(int(number), []), threshold)
    for number in np.flatnonzero(sizes > DENSE):
        members = order[first[number] : first[number] + sizes[number]]
        edges = part[i] == number
        cannot = np.asarray(apart_in.get(int(number), []), np.int64).reshape(-1, 2)
        a, b, never = (np.searchsorted(members, rows) for rows in (i[edges], j[edges], cannot))
        found = agglomerate(unit[members], np.ones(len(members), np.int64), a, b, never, 1 - threshold - 1e-6)
        label[members] = members[found]
    return label


def connected(n: int, i: npt.NDArray[np.integer], j: npt.NDArray[np.integer]) -> npt.NDArray[np.int32]:
    """(n,) number of the connected part of each row in the graph of pairs (i, j)."""
    return connected_components(coo_array((np.ones(len(i), np.int8), (i, j)), shape=(n, n)), directed=False)[1]


def _join_twos(
    unit: Vectors,
    a: Integers,
    b: Integers,
    part: Integers,
    apart_in: dict[int, list[tuple[int, int]]],
    threshold: float,
    label: Integers,
) -> None:
    """Label the parts of two tracks, all at once."""
    joined = np.round(1 - likeness_of(unit, a, b), 6) <= threshold
    if apart_in:
        joined &= ~np.isin(part, list(apart_in))
    label[b[joined]] = a[joined]


def _split_dense(members: Integers, unit: Vectors, apart: list[tuple[int, int]], threshold: float) -> Integers:
    """Average linkage in one part, cut at the threshold, and lower where a cluster would hold a pair of ``apart``."""
    own = unit[members]
    if not apart and float((own @ own.T).min()) >= 1 - threshold + 1e-5:
        return np.full(len(members), members[0])  # every pair is near: so is every average
    own = own.astype(np.float64)
    distance = np.clip(1 - own @ own.T, 0, APART)
    inside = np.searchsorted(members, np.asarray(apart, np.int64).reshape(-1, 2))
    distance[inside[:, 0], inside[:, 1]] = distance[inside[:, 1], inside[:, 0]] = APART
    np.fill_diagonal(distance, 0)
    # rounded: a sum's last bit depends on the matrix product's blocking, a tie must not
    merges = linkage(np.round(squareform(distance, checks=False), 6), "average")
    if not apart:
        found = fcluster(merges, threshold, "distance")
        _, first, which = np.unique(found, return_index=True, return_inverse=True)
        return members[first[which]]
    label = np.empty(len(members), np.int64)
    pending: list[ClusterNode] = [to_tree(merges)]
    while pending:
        node = pending.pop()
        leaves = set(node.pre_order())
        if node.dist <= threshold and not any(a in leaves and b in leaves for a, b in inside.tolist()):
            label[sorted(leaves)] = members[min(leaves)]
        else:
            pending += [node.get_left(), node.get_right()]
    return label
