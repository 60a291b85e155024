"""Tables that belong to the corpus and not to a snapshot: every attempt, and every run that made or read one."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa

from mfhq.parquet import from_parquet
from mfhq.paths import LEDGER, RUNS, run_path
from mfhq.schema import ATTEMPTS
from mfhq.schema import RUNS as RUNS_SCHEMA
from mfhq.store import Store
from mfhq.takedowns import Denied, read_takedowns

_READERS = 16


def read_attempts(store: Store, step: str = "") -> pa.Table:
    """Every attempt on record (``ATTEMPTS``), or those of one step."""
    with ThreadPoolExecutor(_READERS) as pool:
        paths = list(store.list(f"{LEDGER}{step}"))
        tables = list(pool.map(lambda path: from_parquet(store.read(path), ATTEMPTS), paths))
    denied = Denied(tuple(read_takedowns(store, unfinished=True)))
    return denied.without(pa.concat_tables([ATTEMPTS.empty_table(), *tables]))


def record_run(
    store: Store,
    run_id: str,
    kind: str,
    snapshot: str = "",
    git_revision: str | None = None,
    config_hash: str | None = None,
    parent_run_id: str | None = None,
) -> None:
    """Put a run on record (``RUNS``): which snapshot (``v0003``) it made or read; a second record of it wins."""
    row = {
        "run_id": run_id,
        "kind": kind,
        "snapshot": snapshot,
        "git_revision": git_revision,
        "config_hash": config_hash,
        "parent_run_id": parent_run_id,
    }
    store.write(run_path(run_id), json.dumps(row, indent=1).encode())


def read_runs(store: Store) -> pa.Table:
    """Every run on record (``RUNS``)."""
    with ThreadPoolExecutor(_READERS) as pool:
        rows = [json.loads(data) for data in pool.map(store.read, list(store.list(RUNS)))]
    return pa.Table.from_pylist(rows, schema=RUNS_SCHEMA)


READERS: dict[str, Callable[[Store], pa.Table]] = {"attempts": read_attempts, "runs": read_runs}
