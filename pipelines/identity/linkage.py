"""Which tracks show the same person: near neighbours, found block by block, then average linkage.

Exact for a corpus of up to ``EXACT`` tracks. Beyond, neighbours are searched in overlapping blocks
(``pipelines.identity.neighbours``), so that time and memory grow with the corpus and not with its square.

Average linkage over a sparse graph, by merging clusters that are each other's nearest, round after round.

For unit vectors the average of all cosine similarities between two clusters is the inner product of their means, so no
matrix of pairs is needed. Merging all reciprocal nearest clusters at once gives what merging the nearest pair of all
gives, one after the other, since average linkage is reducible (Bruynooghe 1977; Sumengen et al., "Scaling hierarchical
agglomerative clustering to billion-sized datasets", 2021). A bridge between two people does not join them: the
average over all their tracks does not reach the threshold.

Split the connected parts of a neighbour graph into people, by average linkage inside each.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import numpy.typing as npt
from scipy.cluster.hierarchy import ClusterNode, fcluster, linkage, to_tree
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial.distance import squareform
from threadpoolctl import threadpool_limits

from pipelines.identity.constraints import (
    SAME_PICTURE,
    Integers,
    SamePicture,
    TrackSpans,
    Vectors,
    apart_pairs,
    likeness_of,
)
from pipelines.identity.neighbours import Pairs, Partition, Rows, block_members, make_partition, near_pairs

EXACT = 20_000
"""Tracks up to which every pair is compared."""
BLOCK = 4096
"""Vectors of a block, on average."""
COPIES = 8
"""Blocks that a vector is in, for up to ``_COPIES_HOLD`` blocks; 2.5 more for ten times as many. Measured on drawn
embeddings in 1,951 blocks: of two tracks of one person 99 of 100 meet, of more than two nearly all."""
_COPIES_HOLD, _COPIES_MORE = 2000, 2.5
MARGIN = 0.06
"""Cosine similarity by which the projected search is more generous than the threshold."""
_SURE = 0.15

BlockSearch = Callable[[Vectors, Sequence[Rows], float], Pairs]
"""``search(projected, members of each block, at_least)``: the near pairs of all blocks, as rows of ``projected``."""


def cluster_rows(
    unit: Vectors,
    seen: TrackSpans,
    threshold: float,
    same: SamePicture = SAME_PICTURE,
    search: BlockSearch | None = None,
) -> Integers:
    """(N,) label of each row of unit vectors (N, D) in the order of the track ids: the lowest row of its cluster.

    Rows with one label are one person: average linkage joins what is nearer than ``threshold`` (cosine distance). Two
    tracks that are seen at once in one video are never joined, unless they may be the ``same`` picture twice.
    ``search`` runs the blocks of many rows (here, in threads, by default).
    """
    if not len(unit):
        return np.empty(0, np.int64)
    apart = apart_pairs(unit, seen, same)
    pairs = alike_pairs(unit, 1 - threshold, search)
    with threadpool_limits(1, user_api="blas"):  # many small products
        return split_parts(unit, pairs.i, pairs.j, apart, threshold)


def alike_pairs(unit: Vectors, at_least: float, search: BlockSearch | None = None) -> Pairs:
    """Pairs of rows of unit vectors (N, D) with a cosine similarity of ``at_least`` or more: see ``near_pairs``.

    Every pair is compared up to ``EXACT`` rows; beyond, blocks are searched (here, in threads, by default), and a few
    pairs that no block brings together are missing.
    """
    if len(unit) <= EXACT:
        return near_pairs(unit, at_least - 1e-6)
    return blocked_pairs(unit, at_least, search or search_blocks)


def counted(label: Integers) -> Integers:
    """Labels from 0, in the order of the lowest row of each."""
    return np.unique(label, return_inverse=True)[1].astype(np.int64)


def n_blocks_of(n: int) -> tuple[int, int]:
    """(blocks, copies) for n vectors."""
    copies = COPIES
    blocks = max(1, round(n * copies / BLOCK))
    if blocks > _COPIES_HOLD:
        copies += round(_COPIES_MORE * np.log10(blocks / _COPIES_HOLD))
        blocks = round(n * copies / BLOCK)
    return blocks, min(copies, blocks)


def blocked_pairs(unit: Vectors, at_least: float, search: BlockSearch) -> Pairs:
    """Near pairs of unit vectors (N, D), each once; a few that no block brings together are missing."""
    blocks, copies = n_blocks_of(len(unit))
    partition = make_partition(unit, blocks, seed=0)
    projected = partition.project(unit)
    members = list(block_members(partition.nearest(projected, copies), blocks))
    found = search(projected, members, projected_threshold(partition, at_least))
    return verified(unit, found, at_least)


def projected_threshold(partition: Partition, at_least: float) -> float:
    """What the search asks for: a little less where vectors were projected."""
    wide, narrow = partition.projection.shape
    return at_least - (MARGIN if narrow < wide else 1e-6)


def verified(unit: Vectors, found: Pairs, at_least: float) -> Pairs:
    """Each pair once; those that the search was not sure of are compared in full."""
    code = found.i.astype(np.int64) * len(unit) + found.j
    code, first = np.unique(code, return_index=True)
    likeness = found.likeness[first].astype(np.float64)
    unsure = likeness < at_least + _SURE
    i, j = (code // len(unit)).astype(np.int32), (code % len(unit)).astype(np.int32)
    likeness[unsure] = likeness_of(unit, i[unsure], j[unsure])
    keep = likeness >= at_least - 1e-6
    return Pairs(i[keep], j[keep], likeness[keep].astype(np.float32))


def search_blocks(projected: Vectors, members: Sequence[Rows], at_least: float) -> Pairs:
    """Search every block in this process, a thread a core."""
    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(os.cpu_count()) as pool:
        return Pairs.joined(list(pool.map(partial(search_block, projected, at_least), members)))


def search_block(projected: Vectors, at_least: float, rows: Rows) -> Pairs:
    """The near pairs of one block, as rows of ``projected``."""
    pairs = near_pairs(projected[rows], at_least)
    return Pairs(rows[pairs.i].astype(np.int32), rows[pairs.j].astype(np.int32), pairs.likeness)


def agglomerate(
    sums: Vectors,
    sizes: Integers,
    i: npt.NDArray[np.integer],
    j: npt.NDArray[np.integer],
    apart: Integers,
    at_least: float,
    frozen: npt.NDArray[np.bool_] | None = None,
) -> Integers:
    """(M,) label of each of M groups of tracks after merging; labels are the lowest group's number.

    Args:
        sums: (M, D) sum of each group's unit vectors; overwritten.
        sizes: (M,) tracks of each group; overwritten.
        i, j: pairs of groups that may be merged: candidates, not promises.
        apart: (P, 2) pairs of groups that must never end up together.
        at_least: average cosine similarity from which two groups are one person.
        frozen: (M,) groups of which no two may be merged; by default none.
    """
    n = len(sums)
    label, kept = np.arange(n), np.zeros(n, bool) if frozen is None else frozen.copy()
    means = (sums / sizes[:, None]).astype(np.float32)
    edges = _edges(i, j, n)
    likeness = likeness_of(means, edges // n, edges % n)
    forbidden = _edges(apart[:, 0], apart[:, 1], n)
    while True:
        keep = (likeness >= at_least) & ~np.isin(edges, forbidden) & ~(kept[edges // n] & kept[edges % n])
        edges, likeness = edges[keep], likeness[keep]
        low, high = _mutual(edges // n, edges % n, likeness, n)
        if not len(low):
            return label
        sums[low] += sums[high]
        sizes[low] += sizes[high]
        kept[low] |= kept[high]
        means[low] = sums[low] / sizes[low, None]
        moved = np.arange(n)
        moved[high] = low
        label = moved[label]
        changed = np.zeros(n, bool)
        changed[low] = True
        before = edges
        edges = _edges(moved[edges // n], moved[edges % n], n)
        forbidden = _edges(moved[forbidden // n], moved[forbidden % n], n)
        anew = changed[edges // n] | changed[edges % n]
        known = np.searchsorted(before, edges[~anew])
        likeness, old = np.empty(len(edges)), likeness
        likeness[~anew] = old[known]
        likeness[anew] = likeness_of(means, edges[anew] // n, edges[anew] % n)


def _edges(i: npt.NDArray[np.integer], j: npt.NDArray[np.integer], n: int) -> Integers:
    """Each pair once, as one number, ascending; pairs of a group with itself are left out."""
    low, high = np.minimum(i, j).astype(np.int64), np.maximum(i, j).astype(np.int64)
    return np.unique(low[low != high] * n + high[low != high])


def _mutual(low: Integers, high: Integers, likeness: npt.NDArray[np.float64], n: int) -> tuple[Integers, Integers]:
    """Pairs that are each other's nearest; of equally near ones the lowest number."""
    one, other = np.concatenate([low, high]), np.concatenate([high, low])
    order = np.lexsort((other, -np.concatenate([likeness, likeness]), one))
    who, first = np.unique(one[order], return_index=True)
    nearest = np.full(n, -1)
    nearest[who] = other[order][first]
    mutual = who[(nearest[nearest[who]] == who) & (who < nearest[who])]
    return mutual, nearest[mutual]


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
