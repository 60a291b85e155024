"""Benchmark of a plan for a long source list, its time and its memory: ``ffavatar bench plan``."""

from __future__ import annotations

import multiprocessing
import tempfile
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from flows.bench import emit
from infra.peak_memory import peak_resident_bytes
from infra.storage import open_store
from mfhq.ids import digest
from mfhq.parquet import to_parquet
from mfhq.paths import ledger_path
from mfhq.schema import ATTEMPTS
from mfhq.store import Store
from pipelines.engine.commits import BlobFile, commit_part
from pipelines.engine.state import BoundStep, bind_steps, group_by_shard
from pipelines.engine.worker import COMMIT_ROWS
from pipelines.mining.digests import CACHE_PREFIX, CACHED
from pipelines.mining.mining_plan import make_mining_plan
from pipelines.mining.steps import AFTER, mining_steps


def bench_plan(rows: int, known: int) -> None:
    """Make a corpus, plan the mining of a list of files into it, and print the plan's time and memory.

    Args:
        rows: Number of files in the list.
        known: Number of these files that have passed every step already.
    """
    with tempfile.TemporaryDirectory(prefix="ffavatar-bench-") as scratch:
        listed, corpus = Path(scratch) / "list.parquet", Path(scratch) / "corpus"
        uris = [f"s3://videos/part-{i % 997:04d}/{digest(['file', i], 24)}.mp4" for i in range(rows)]
        pq.write_table(pa.table({"uri": uris}), listed)
        _fill_corpus(open_store(corpus), uris[:known])
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            figures = pool.apply(_plan, (str(listed), str(corpus)))
        emit("plan", rows=rows, known=known, **figures)


def _plan(listed: str, corpus: str) -> dict[str, Any]:
    start = peak_resident_bytes()
    began = time.perf_counter()
    plan = make_mining_plan(listed, open_store(corpus), bind_steps(mining_steps(), AFTER))
    seconds = time.perf_counter() - began
    return {
        "wall_s": round(seconds, 2),
        "peak_gib": round(peak_resident_bytes() / 2**30, 2),
        "start_gib": round(start / 2**30, 2),
        "files": plan.files,
        "pending": {step.step: step.pending for step in plan.steps},
        "worker_s": plan.seconds,
    }


def _fill_corpus(store: Store, uris: list[str]) -> None:
    """Write the records of mined files to a corpus: cached digests, parts with their markers, and the ledger."""
    ids = [digest(["bytes", uri], 64) for uri in uris]
    for start in range(0, len(uris), 1000):
        part = slice(start, start + 1000)
        rows = [(uri, 1, "stamp", video) for uri, video in zip(uris[part], ids[part], strict=True)]
        table = pa.table([pa.array(column) for column in zip(*rows, strict=True)], schema=CACHED)
        store.write(f"{CACHE_PREFIX}/{start:08d}.parquet", to_parquet(table))
    for b in bind_steps(mining_steps(), AFTER):
        for shard, keys in group_by_shard(ids):
            for number, start in enumerate(range(0, len(keys), COMMIT_ROWS)):
                _commit(store, b, shard, number, keys[start : start + COMMIT_ROWS])


def _commit(store: Store, b: BoundStep, shard: int, number: int, keys: list[str]) -> None:
    values = {b.step.key: keys, "status": ["ok"] * len(keys), "reason": [""] * len(keys), "_attempt": [1] * len(keys)}
    fields = b.location.stored_schema
    columns = [pa.array(values.get(f.name, ["" if not f.nullable else None] * len(keys)), f.type) for f in fields]
    commit_part(store, b.location, shard, number, pa.table(columns, schema=fields), BlobFile(), [], "bench")
    attempts = {
        "item_id": keys,
        "step": b.step.name,
        "fingerprint": b.location.fingerprint,
        "attempt": 1,
        "status": "ok",
        "reason": "",
        "seconds": 0.5,
        "bytes": 1000,
        "host": "bench",
        "run_id": "bench",
    }
    rows = [attempts | {"item_id": key} for key in keys]
    path = ledger_path(b.step.name, b.location.fingerprint, shard, "bench", f"{number:012d}")
    store.write(path, to_parquet(pa.Table.from_pylist(rows, schema=ATTEMPTS)))
