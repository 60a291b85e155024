"""What became of every item of a step, read from its parts without their other columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mfhq.live import read_attempts
from mfhq.schema import FAILED
from mfhq.store import Store
from pipelines.parts import ATTEMPT, Marker, StepPlace, markers
from pipelines.plan import BoundStep

OUTCOME = pa.schema(
    [
        pa.field("item_id", pa.string()),
        pa.field("status", pa.string()),
        pa.field("reason", pa.string()),
        pa.field("attempt", pa.int32()),
    ]
)

_READERS = 16


def outcomes(store: Store, at: StepPlace) -> pa.Table:
    """``OUTCOME`` of a step's items, the newest of each, in no particular order.

    Reads four columns of each part and no picture; the parts are not held against their digests.
    """

    def read(marker: Marker) -> pa.Table:
        with store.filesystem.open(store.url(marker.data), "rb") as stream:
            table = pq.ParquetFile(stream).read([at.key, "status", "reason", ATTEMPT], use_threads=False)
        return table.select([at.key, "status", "reason", ATTEMPT]).rename_columns(OUTCOME.names).cast(OUTCOME)

    with ThreadPoolExecutor(_READERS) as pool:
        tables = list(pool.map(read, markers(store, at.prefix).values()))
    table = pa.concat_tables([OUTCOME.empty_table(), *tables]).combine_chunks()
    if pc.count_distinct(table["item_id"]).as_py() == table.num_rows:
        return table
    rows = table.append_column("_row", pa.array(np.arange(table.num_rows)))  # markers come by shard and part
    newest = rows.group_by("item_id").aggregate([("_row", "max")])["_row_max"]
    return table.take(newest)


def finished(table: pa.Table, max_attempts: int) -> pa.Table:
    """Those of the outcomes whose item is never worked on again: ok, rejected, or failed often enough."""
    done = pc.or_(pc.not_equal(table["status"], FAILED), pc.greater_equal(table["attempt"], max_attempts))
    return table.filter(done)


def failed_items(store: Store, bound: Sequence[BoundStep], uri_of: Mapping[str, str]) -> pa.Table:
    """Every item that a step gave up or has failed so far: item_id, uri, step, reason, attempts, error (the last)."""
    errors = {
        (row["item_id"], row["step"], row["fingerprint"]): row["error"]
        for row in read_attempts(store).to_pylist()
        if row["status"] == FAILED
    }
    rows = []
    for b in bound:
        table = outcomes(store, b.at)
        for row in table.filter(pc.equal(table["status"], FAILED)).to_pylist():
            item = row["item_id"]
            rows.append(
                {
                    "item_id": item,
                    "uri": uri_of.get(item, ""),
                    "step": b.step.name,
                    "reason": row["reason"],
                    "attempts": row["attempt"],
                    "error": errors.get((item, b.step.name, b.at.fingerprint)) or "",
                }
            )
    names = ("item_id", "uri", "step", "reason")
    schema = pa.schema([*((name, pa.string()) for name in names), ("attempts", pa.int32()), ("error", pa.string())])
    return pa.Table.from_pylist(sorted(rows, key=lambda row: (row["uri"], row["step"])), schema=schema)
