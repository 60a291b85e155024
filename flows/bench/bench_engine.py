"""Benchmark of the engine's own overhead and memory, on items that need no work: ``ffavatar bench engine``."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from flows.bench import emit
from infra.peak_memory import PeakMemory
from infra.ray_session import ray_session
from infra.settings import load_settings
from infra.storage import open_store
from mfhq.ids import digest
from pipelines.engine.ray_data import run_steps
from pipelines.engine.step import Resources, Step

ITEMS = pa.schema([pa.field("item_id", pa.string(), nullable=False), pa.field("value", pa.int64())])
DONE = pa.schema([*ITEMS, *(pa.field(name, pa.string(), nullable=False) for name in ("status", "reason"))])


def bench_engine(sizes: Sequence[int]) -> None:
    """Run tiny items through a step that does nothing, and print the overhead per item and the peak memory.

    Args:
        sizes: Numbers of items; each gives one figure.
    """
    with ray_session(load_settings()):
        _run(100)  # warm-up: the workers import their modules
        for n in sizes:
            with PeakMemory() as memory:
                seconds, again = _run(n)
            emit(
                "engine",
                items=n,
                wall_s=round(seconds, 2),
                ms_an_item=round(1e3 * seconds / n, 3),
                resume_s=round(again, 2),
                peak_gib=round(memory.gib, 2),
            )


def _run(n: int) -> tuple[float, float]:
    """Return the seconds of a run over ``n`` items, and of the same call again, which has nothing to do."""
    items = pa.table({"item_id": [digest(["item", i], 64) for i in range(n)], "value": range(n)}, schema=ITEMS)
    with tempfile.TemporaryDirectory(prefix="ffavatar-bench-") as folder:
        store = open_store(Path(folder))
        began = time.perf_counter()
        (summary,) = run_steps([_step()], items, store, "bench")
        middle = time.perf_counter()
        run_steps([_step()], items, store, "again")
        if summary.ok != n:
            raise RuntimeError(f"{summary.ok} of {n} items are ok; the engine lost some")
        return middle - began, time.perf_counter() - middle


def _step() -> Step:
    return Step(
        name="nothing",
        version=1,
        key="item_id",
        input=ITEMS,
        output=DONE,
        load=_nothing,
        fn=_pass_on,
        resources=Resources(cpus=1, batch=128),
    )


def _nothing() -> None:
    return None


def _pass_on(resource: None, items: pa.Table) -> pa.Table:
    for name, value in (("status", "ok"), ("reason", "")):
        items = items.append_column(DONE.field(name), pa.array([value] * items.num_rows, pa.string()))
    return items
