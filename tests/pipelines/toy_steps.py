"""A tiny chain of steps for the engine's tests: count letters, then a picture and a private number for each item."""

from __future__ import annotations

import time

import pyarrow as pa

from mfhq.ids import seed_of
from pipelines.step import Resources, Step

KEY = pa.field("item_id", pa.string(), nullable=False)
STATUS = [pa.field("status", pa.string(), nullable=False), pa.field("reason", pa.string(), nullable=False)]
SOURCES = pa.schema([KEY, pa.field("text", pa.string())])
COUNTED = pa.schema([KEY, *STATUS, pa.field("text", pa.string()), pa.field("n", pa.int64())])
DRAWN = pa.schema([KEY, *STATUS, pa.field("faces", pa.list_(pa.struct([pa.field("crop", pa.large_binary())])))])
SIZED = pa.schema([KEY, *STATUS, pa.field("size", pa.int64())])
AFTER = {"measure": "draw", "size": "draw"}


def sources(n: int) -> pa.Table:
    """n items: every seventh is empty (rejected), every eleventh has the text "bad" (its step raises)."""
    texts = ["" if i % 7 == 3 else "bad" if i % 11 == 5 else f"text {i}" for i in range(n)]
    return pa.table({"item_id": [f"item-{i:05d}" for i in range(n)], "text": texts}, schema=SOURCES)


def count(resource, table):
    rows = [{**row, **({"status": "ok", "reason": ""} if row["text"] else {"status": "rejected", "reason": "empty"}),
             "n": len(row["text"])} for row in table.to_pylist()]  # fmt: skip
    return pa.Table.from_pylist(rows, schema=COUNTED)


def draw(resource, table):
    time.sleep(resource * table.num_rows)
    rows = []
    for row in table.to_pylist():
        if row["text"] == "bad":
            raise ValueError("this one can't be drawn")
        crops = [{"crop": str(seed_of(row["item_id"]) + i).encode() * 5} for i in range(row["n"] % 3 + 1)]
        rows.append({"item_id": row["item_id"], "status": "ok", "reason": "", "faces": crops})
    return pa.Table.from_pylist(rows, schema=DRAWN)


def size(resource, table):
    rows = [{"item_id": row["item_id"], "status": "ok", "reason": "",
             "size": sum(len(face["crop"]) for face in row["faces"])} for row in table.to_pylist()]  # fmt: skip
    return pa.Table.from_pylist(rows, schema=SIZED)


def nothing():
    return 0.0


def toy_steps(seconds: float = 0.0, batch: int = 8) -> list[Step]:
    """count → draw → measure (private), and draw → size: pass ``AFTER`` along."""
    few = Resources(cpus=0.5, batch=batch)
    return [
        Step(
            name="count", version=1, key="item_id", input=SOURCES, output=COUNTED, load=nothing, fn=count, resources=few
        ),
        Step(
            name="draw",
            version=1,
            key="item_id",
            input=COUNTED,
            output=DRAWN,
            load=lambda: seconds,
            fn=draw,
            resources=few,
        ),
        Step(
            name="measure",
            version=1,
            key="item_id",
            input=DRAWN,
            output=SIZED,
            load=nothing,
            fn=size,
            resources=few,
            private=True,
        ),
        Step(name="size", version=1, key="item_id", input=DRAWN, output=SIZED, load=nothing, fn=size, resources=few),
    ]
