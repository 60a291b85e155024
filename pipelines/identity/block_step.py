"""Search the blocks of a large corpus as a step of the engine: each is committed when it is done, on any machine."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import pyarrow as pa

from mfhq.ids import digest
from mfhq.schema import OK
from mfhq.store import Store
from pipelines.identity.constraints import Vectors
from pipelines.identity.neighbours import Pairs, near_pairs
from pipelines.identity.partition import Rows
from pipelines.step import Resources, Step

HALF = 1e-3
"""Cosine similarity by which vectors of half precision may be off; the search is more generous by so much."""

BLOCKS = pa.schema(
    [
        pa.field("block_id", pa.string(), nullable=False),
        pa.field("path", pa.string(), nullable=False),
        pa.field("rows", pa.int64(), nullable=False),
        pa.field("at_least", pa.float64(), nullable=False),
    ]
)
"""A block: ``path`` holds the numbers of its rows (int32), then their vectors (float16, row by row)."""

NEIGHBOURS = pa.schema(
    [
        pa.field("block_id", pa.string(), nullable=False),
        pa.field("status", pa.string(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("i", pa.list_(pa.int32())),
        pa.field("j", pa.list_(pa.int32())),
        pa.field("likeness", pa.list_(pa.float32())),
    ]
)
"""The near pairs of a block, as numbers of rows."""


def write_blocks(store: Store, projected: Vectors, members: Sequence[Rows], at_least: float) -> pa.Table:
    """Put each block where workers find it (``BLOCKS``); one that is there already is not written again."""
    rows = []
    for number, block in enumerate(members):
        path = f"blocks/{number:08d}"
        if not store.exists(path):
            store.write(path, block.astype(np.int32).tobytes() + projected[block].astype(np.float16).tobytes())
        rows.append(
            {"block_id": digest([number, at_least], 32), "path": path, "rows": len(block), "at_least": at_least - HALF}
        )
    return pa.Table.from_pylist(rows, schema=BLOCKS)


def neighbours_step(store: Store) -> Step:
    """Blocks in (``BLOCKS``), near pairs out (``NEIGHBOURS``); ``store`` holds the blocks' files."""
    return Step(
        name="neighbours",
        version=1,
        key="block_id",
        input=BLOCKS,
        output=NEIGHBOURS,
        load=partial(_given, store),
        fn=search_stored,
        resources=Resources(cpus=1, batch=4),
    )


def search_stored(store: Store, blocks: pa.Table) -> pa.Table:
    """The near pairs of some blocks."""
    found = []
    for row in blocks.to_pylist():
        data, n = store.read(row["path"]), row["rows"]
        numbers = np.frombuffer(data, np.int32, n)
        vectors = np.frombuffer(data, np.float16, offset=4 * n).reshape(n, -1).astype(np.float32)
        pairs = near_pairs(vectors, row["at_least"])
        found.append(
            {"block_id": row["block_id"], "status": OK, "reason": "", "i": numbers[pairs.i], "j": numbers[pairs.j],
             "likeness": pairs.likeness}
        )  # fmt: skip
    return pa.Table.from_pylist(found, schema=NEIGHBOURS)


def pairs_of(found: pa.Table) -> Pairs:
    """All pairs of ``NEIGHBOURS`` rows."""
    i, j, likeness = (
        pa.concat_arrays(found[name].chunks).flatten().to_numpy() if found.num_rows else np.empty(0)
        for name in ("i", "j", "likeness")
    )
    return Pairs(i.astype(np.int32), j.astype(np.int32), likeness.astype(np.float32))


def _given(store: Store) -> Store:
    return store
