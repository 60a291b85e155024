"""Average linkage on a sparse graph of near neighbours: clusters tracks into people.

In a corpus of up to ``EXACT`` tracks, every pair is compared. In a larger one, neighbours are searched in overlapping
blocks (``pipelines.identity.neighbours``), so that time and memory grow with the size of the corpus and not with its
square. Each connected component of the graph is then split into people by average linkage.

For unit vectors the average of all cosine similarities between two clusters is the inner product of their means, so
large components need no matrix of all pairs: in each round, all clusters that are each other's nearest are merged. The
result is the same as if only the nearest pair of all were merged each time, since average linkage is reducible
(Bruynooghe 1977; Sumengen et al., "Scaling hierarchical agglomerative clustering to billion-sized datasets", 2021). A
few similar tracks do not join two people: the average over all their tracks does not reach the threshold.
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
from scipy.spatial.distance import squareform
from threadpoolctl import threadpool_limits

from pipelines.identity.constraints import (
    SAME_IMAGE,
    Integers,
    SameImage,
    TrackSpans,
    Vectors,
    cannot_link_pairs,
    cosine_similarities,
)
from pipelines.identity.neighbours import (
    Pairs,
    Partition,
    Rows,
    block_members,
    label_components,
    make_partition,
    near_pairs,
)

EXACT = 20_000
"""Number of tracks up to which every pair is compared."""
BLOCK_SIZE = 4096
"""Average number of vectors in a block."""
BLOCKS_PER_VECTOR = 8
"""Number of blocks that each vector is put into.

It applies up to ``_COPIES_HOLD`` blocks; for ten times as many blocks it grows by ``_COPIES_MORE``. Measured on
random embeddings in 1,951 blocks: the tracks of a person with two tracks meet in some block in 99 of 100 cases, those
of a person with more tracks nearly always.
"""
_COPIES_HOLD, _COPIES_MORE = 2000, 2.5
PROJECTION_MARGIN = 0.06
"""Amount by which the least cosine similarity is lowered for the search on projected vectors."""
_SURE = 0.15
CANNOT_LINK_DISTANCE = 2.0
"""Distance that two tracks that cannot be one person are given: the largest cosine distance."""
MAX_DENSE_TRACKS = 2048
"""Most tracks of a component that is clustered by a matrix of all distances (32 MB); larger ones use their graph."""

BlockSearch = Callable[[Vectors, Sequence[Rows], float], Pairs]
"""Function (projected vectors, rows of each block, least similarity) to the near pairs of all blocks.

The pairs are row numbers of the projected vectors.
"""


def cluster_rows(
    unit: Vectors,
    spans: TrackSpans,
    threshold: float,
    same: SameImage = SAME_IMAGE,
    search: BlockSearch | None = None,
) -> Integers:
    """Cluster tracks into people.

    Average linkage joins clusters whose average distance is at most ``threshold``. Two tracks that are visible together
    in one video are never joined, unless they may be one image shown twice.

    Args:
        unit: (N, D) unit vectors, in the order of the track ids.
        spans: Frame ranges of the N tracks.
        threshold: Average cosine distance up to which two clusters are one person.
        same: Limits within which two tracks that are visible together may be one person.
        search: Function that searches the blocks if there are many rows; by default ``search_blocks``.

    Returns:
        (N,) label of each row: the lowest row of its cluster.
    """
    if not len(unit):
        return np.empty(0, np.int64)
    cannot_link = cannot_link_pairs(unit, spans, same)
    pairs = similar_pairs(unit, 1 - threshold, search)
    with threadpool_limits(1, user_api="blas"):  # one thread, since the products are many and small
        return split_components(unit, pairs.i, pairs.j, cannot_link, threshold)


def number_labels(label: Integers) -> Integers:
    """Return the labels numbered from 0, in the order of the lowest row of each."""
    return np.unique(label, return_inverse=True)[1].astype(np.int64)


def similar_pairs(unit: Vectors, at_least: float, search: BlockSearch | None = None) -> Pairs:
    """Find pairs of similar rows, as ``near_pairs`` does.

    If there are up to ``EXACT`` rows, every pair is compared. If there are more, blocks are searched, and a few pairs
    whose two rows share no block are missing.

    Args:
        unit: (N, D) unit vectors.
        at_least: Least cosine similarity of a pair.
        search: Function that searches the blocks; by default ``search_blocks``.
    """
    if len(unit) <= EXACT:
        return near_pairs(unit, at_least - 1e-6)
    return blocked_pairs(unit, at_least, search or search_blocks)


def blocked_pairs(unit: Vectors, at_least: float, search: BlockSearch) -> Pairs:
    """Find near pairs block by block; a few pairs whose two rows share no block are missing.

    Args:
        unit: (N, D) unit vectors.
        at_least: Least cosine similarity of a pair.
        search: Function that searches the blocks.

    Returns:
        The pairs, each once.
    """
    blocks, copies = count_blocks(len(unit))
    partition = make_partition(unit, blocks, seed=0)
    projected = partition.project(unit)
    members = list(block_members(partition.nearest(projected, copies), blocks))
    found = search(projected, members, projected_threshold(partition, at_least))
    return verify_pairs(unit, found, at_least)


def count_blocks(n: int) -> tuple[int, int]:
    """Return (number of blocks, number of blocks per vector) for ``n`` vectors."""
    copies = BLOCKS_PER_VECTOR
    blocks = max(1, round(n * copies / BLOCK_SIZE))
    if blocks > _COPIES_HOLD:
        copies += round(_COPIES_MORE * np.log10(blocks / _COPIES_HOLD))
        blocks = round(n * copies / BLOCK_SIZE)
    return blocks, min(copies, blocks)


def projected_threshold(partition: Partition, at_least: float) -> float:
    """Return the least similarity for the search, which is a little lower than ``at_least``.

    It is lower by ``PROJECTION_MARGIN`` if the vectors are projected, else by 1e-6, for rounding.
    """
    wide, narrow = partition.projection.shape
    return at_least - (PROJECTION_MARGIN if narrow < wide else 1e-6)


def verify_pairs(unit: Vectors, found: Pairs, at_least: float) -> Pairs:
    """Drop duplicate pairs, and compute the exact similarity of those that are not clearly above ``at_least``.

    Args:
        unit: (N, D) unit vectors.
        found: Pairs of rows, with the search's similarities.
        at_least: Least cosine similarity of a pair.
    """
    code = found.i.astype(np.int64) * len(unit) + found.j
    code, first = np.unique(code, return_index=True)
    similarity = found.similarity[first].astype(np.float64)
    unsure = similarity < at_least + _SURE
    i, j = (code // len(unit)).astype(np.int32), (code % len(unit)).astype(np.int32)
    similarity[unsure] = cosine_similarities(unit, i[unsure], j[unsure])
    keep = similarity >= at_least - 1e-6
    return Pairs(i[keep], j[keep], similarity[keep].astype(np.float32))


def search_blocks(projected: Vectors, members: Sequence[Rows], at_least: float) -> Pairs:
    """Search every block in this process, with one thread per core.

    Args:
        projected: (N, d) unit vectors.
        members: Rows of each block.
        at_least: Least cosine similarity of a pair.

    Returns:
        The near pairs of all blocks, as rows of ``projected``; a pair that several blocks hold occurs several times.
    """
    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(os.cpu_count()) as pool:
        return Pairs.joined(list(pool.map(partial(search_block, projected, at_least), members)))


def search_block(projected: Vectors, at_least: float, rows: Rows) -> Pairs:
    """Return the near pairs of one block, as rows of ``projected``."""
    pairs = near_pairs(projected[rows], at_least)
    return Pairs(rows[pairs.i].astype(np.int32), rows[pairs.j].astype(np.int32), pairs.similarity)


def split_components(
    unit: Vectors, i: npt.NDArray[np.integer], j: npt.NDArray[np.integer], cannot_link: Integers, threshold: float
) -> Integers:
    """Split the connected components of a graph of near pairs into people, by average linkage.

    Args:
        unit: (N, D) unit vectors.
        i: (P,) first row of each near pair.
        j: (P,) second row of each near pair.
        cannot_link: (Q, 2) pairs of rows that cannot be one person.
        threshold: Cosine distance at which the linkage is cut.

    Returns:
        (N,) label of each row: the lowest row of its cluster.
    """
    n = len(unit)
    part = label_components(n, i, j)
    label = np.arange(n)
    order = np.argsort(part, kind="stable")
    sizes = np.bincount(part)
    first = np.cumsum(sizes) - sizes
    inside = part[cannot_link[:, 0]] == part[cannot_link[:, 1]]
    cannot_link_in: defaultdict[int, list[tuple[int, int]]] = defaultdict(list)
    for a, b in cannot_link[inside].tolist():
        cannot_link_in[int(part[a])].append((a, b))
    twos = np.flatnonzero(sizes == 2)
    _join_twos(unit, order[first[twos]], order[first[twos] + 1], twos, cannot_link_in, threshold, label)
    for number in np.flatnonzero(sizes > 2):
        members = order[first[number] : first[number] + sizes[number]]
        if len(members) <= MAX_DENSE_TRACKS:
            label[members] = _split_dense(members, unit, cannot_link_in.get(int(number), []), threshold)
    for number in np.flatnonzero(sizes > MAX_DENSE_TRACKS):
        members = order[first[number] : first[number] + sizes[number]]
        edges = part[i] == number
        cannot = np.asarray(cannot_link_in.get(int(number), []), np.int64).reshape(-1, 2)
        a, b, never = (np.searchsorted(members, rows) for rows in (i[edges], j[edges], cannot))
        found = agglomerate(unit[members], np.ones(len(members), np.int64), a, b, never, 1 - threshold - 1e-6)
        label[members] = members[found]
    return label


def _join_twos(
    unit: Vectors,
    a: Integers,
    b: Integers,
    part: Integers,
    cannot_link_in: dict[int, list[tuple[int, int]]],
    threshold: float,
    label: Integers,
) -> None:
    """Label all components that have two tracks, in one go."""
    joined = np.round(1 - cosine_similarities(unit, a, b), 6) <= threshold
    if cannot_link_in:
        joined &= ~np.isin(part, list(cannot_link_in))
    label[b[joined]] = a[joined]


def _split_dense(members: Integers, unit: Vectors, cannot_link: list[tuple[int, int]], threshold: float) -> Integers:
    """Cut the average linkage of one component at the threshold, and lower where it would join a cannot-link pair."""
    own = unit[members]
    if not cannot_link and float((own @ own.T).min()) >= 1 - threshold + 1e-5:
        return np.full(len(members), members[0])  # all pairs are near, and so are all averages
    own = own.astype(np.float64)
    distance = np.clip(1 - own @ own.T, 0, CANNOT_LINK_DISTANCE)
    inside = np.searchsorted(members, np.asarray(cannot_link, np.int64).reshape(-1, 2))
    distance[inside[:, 0], inside[:, 1]] = distance[inside[:, 1], inside[:, 0]] = CANNOT_LINK_DISTANCE
    np.fill_diagonal(distance, 0)
    # rounded, so that ties do not depend on the last bits, which vary with the blocking of the matrix product
    merges = linkage(np.round(squareform(distance, checks=False), 6), "average")
    if not cannot_link:
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


def agglomerate(
    sums: Vectors,
    sizes: Integers,
    i: npt.NDArray[np.integer],
    j: npt.NDArray[np.integer],
    cannot_link: Integers,
    at_least: float,
    frozen: npt.NDArray[np.bool_] | None = None,
) -> Integers:
    """Merge groups of tracks by average linkage over a graph of candidate pairs.

    Args:
        sums: (M, D) sum of each group's unit vectors; overwritten.
        sizes: (M,) tracks of each group; overwritten.
        i: (P,) first group of each candidate pair; only groups that a candidate pair connects can be merged.
        j: (P,) second group of each candidate pair.
        cannot_link: (Q, 2) pairs of groups that must never end up together.
        at_least: Average cosine similarity from which on two groups are one person.
        frozen: (M,) True for groups that must not be merged with each other; by default all False.

    Returns:
        (M,) label of each group: the lowest group of its cluster.
    """
    n = len(sums)
    label, kept = np.arange(n), np.zeros(n, bool) if frozen is None else frozen.copy()
    means = (sums / sizes[:, None]).astype(np.float32)
    edges = _edges(i, j, n)
    similarity = cosine_similarities(means, edges // n, edges % n)
    forbidden = _edges(cannot_link[:, 0], cannot_link[:, 1], n)
    while True:
        keep = (similarity >= at_least) & ~np.isin(edges, forbidden) & ~(kept[edges // n] & kept[edges % n])
        edges, similarity = edges[keep], similarity[keep]
        low, high = _mutual(edges // n, edges % n, similarity, n)
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
        similarity, old = np.empty(len(edges)), similarity
        similarity[~anew] = old[known]
        similarity[anew] = cosine_similarities(means, edges[anew] // n, edges[anew] % n)


def _edges(i: npt.NDArray[np.integer], j: npt.NDArray[np.integer], n: int) -> Integers:
    """Return each pair once, as the number low * n + high, ascending; pairs of a group with itself are left out."""
    low, high = np.minimum(i, j).astype(np.int64), np.maximum(i, j).astype(np.int64)
    return np.unique(low[low != high] * n + high[low != high])


def _mutual(low: Integers, high: Integers, similarity: npt.NDArray[np.float64], n: int) -> tuple[Integers, Integers]:
    """Return the pairs that are each other's nearest; if several are equally near, the lowest number counts."""
    one, other = np.concatenate([low, high]), np.concatenate([high, low])
    order = np.lexsort((other, -np.concatenate([similarity, similarity]), one))
    who, first = np.unique(one[order], return_index=True)
    nearest = np.full(n, -1)
    nearest[who] = other[order][first]
    mutual = who[(nearest[nearest[who]] == who) & (who < nearest[who])]
    return mutual, nearest[mutual]
