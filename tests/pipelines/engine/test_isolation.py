"""A bad row harms itself alone; what does not fit in memory is halved until it does."""

from __future__ import annotations

import pyarrow as pa
import pytest

from pipelines.engine.step import Resources, Step, run_isolated

ROWS = pa.schema([pa.field("id", pa.string(), nullable=False), pa.field("x", pa.int64())])
OUT = pa.schema(
    [*ROWS, pa.field("status", pa.string(), nullable=False), pa.field("reason", pa.string(), nullable=False)]
)


def step(fn):
    return Step(
        name="s", version=1, key="id", input=ROWS, output=OUT, load=lambda: None, fn=fn, resources=Resources(batch=100)
    )


def passed(table):
    said = [("status", "ok"), ("reason", "")]
    return pa.table({**{n: table[n] for n in ROWS.names}, **{n: [v] * table.num_rows for n, v in said}}, schema=OUT)


def run(fn, n=200):
    rows = pa.table({"id": [f"{i:04d}" for i in range(n)], "x": range(n)}, schema=ROWS)
    parts = list(run_isolated(step(fn), None, rows))
    return pa.concat_tables([out for out, _ in parts]).sort_by("id").to_pylist(), {
        k: e for _, es in parts for k, e in es.items()
    }


def test_a_step_that_raises_on_one_row_in_a_hundred_loses_that_row_alone():
    def fn(resource, table):
        if any(x % 100 == 17 for x in table["x"].to_pylist()):
            raise ValueError("row 17 of a hundred")
        return passed(table)

    rows, errors = run(fn)
    assert [row["id"] for row in rows if row["status"] == "failed"] == ["0017", "0117"] == sorted(errors)
    assert {row["reason"] for row in rows} == {"", "ValueError"} and len(rows) == 200
    assert all("row 17 of a hundred" in error for error in errors.values())


def test_out_of_gpu_memory_halves_the_batch_and_loses_nothing():
    torch = pytest.importorskip("torch")
    sizes = []

    def fn(resource, table):
        sizes.append(table.num_rows)
        if table.num_rows > 30:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return passed(table)

    rows, errors = run(fn)
    assert not errors and [row["x"] for row in rows] == list(range(200)) and {r["status"] for r in rows} == {"ok"}
    assert sizes[0] == 200 and sorted(set(sizes), reverse=True) == [200, 100, 50, 25]


def test_a_step_that_loses_a_row_is_an_error_of_its_own():
    rows, errors = run(lambda resource, table: passed(table).slice(int(table.num_rows > 1)), n=4)
    assert {row["status"] for row in rows} == {"ok"} and not errors  # single rows come out whole
    rows, errors = run(lambda resource, table: passed(table).slice(1), n=2)
    assert {row["reason"] for row in rows} == {"RuntimeError"} and "1 rows in, 0 out" in errors["0000"]
