"""Which tracks show the same person: near neighbours, found block by block, then average linkage.

Exact for a corpus of up to ``EXACT`` tracks. Beyond, neighbours are searched in overlapping blocks
(``pipelines.identity.partition``), so that time and memory grow with the corpus and not with its square.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
from threadpoolctl import threadpool_limits

from pipelines.identity.constraints import (
    SAME_PICTURE,
    Integers,
    SamePicture,
    Seen,
    Vectors,
    apart_pairs,
    likeness_of,
)
from pipelines.identity.linkage import split_parts
from pipelines.identity.neighbours import Pairs, near_pairs
from pipelines.identity.partition import Partition, Rows, block_members, make_partition

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
    unit: Vectors, seen: Seen, threshold: float, same: SamePicture = SAME_PICTURE, search: BlockSearch | None = None
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
