"""Tables that belong to the corpus and to no snapshot: ``attempts`` at items, and ``runs`` that used a snapshot."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa

from mfhq.parquet import from_parquet
from mfhq.paths import LEDGER, RUNS, run_path
from mfhq.schema import ATTEMPTS
from mfhq.schema import RUNS as RUNS_SCHEMA
from mfhq.seals import open_json, seal_json
from mfhq.store import Store
from mfhq.takedowns import DenyList, read_takedowns

COMPACTION = "compaction.json"
"""Name of the record of an unfinished compaction, in a folder of the ledger: a new file, and those that it replaces.

The others count until the new file exists, and do not count any more from then on.
"""

LEDGER_REMEDY = "delete it; the attempts in it are lost, and nothing else"
"""Remedy, in an error, for a damaged file of the ledger."""

_THREADS = 16
"""Number of files that are read at the same time."""


def read_attempts(store: Store, step: str = "") -> pa.Table:
    """Read the recorded attempts, schema ``ATTEMPTS``.

    Args:
        store: The corpus.
        step: Name of the step whose attempts are read; empty for all steps.
    """
    uri = store.uri
    for retries_left in (2, 1, 0):
        try:
            with ThreadPoolExecutor(_THREADS) as pool:
                paths = ledger_files(store, step)
                tables = list(
                    pool.map(
                        lambda path: from_parquet(store.read(path), ATTEMPTS, None, f"{uri}/{path}", LEDGER_REMEDY),
                        paths,
                    )
                )
            break
        except FileNotFoundError:  # the ledger was compacted after it was listed
            if not retries_left:
                raise
    denied = DenyList(tuple(read_takedowns(store, unfinished=True)))
    return denied.prune(pa.concat_tables([ATTEMPTS.empty_table(), *tables]))


def ledger_files(store: Store, step: str = "") -> list[str]:
    """Return the paths of the ledger's files, sorted; each attempt is in exactly one of them.

    While the ledger is compacted (``pipelines.engine.ledger``), the files that a compacted one replaces are left out.

    Args:
        store: The corpus.
        step: A step, or a step and a fingerprint with a slash between them; empty for all.
    """
    paths = list(store.list(f"{LEDGER}{step}"))
    records = [path for path in paths if path.endswith(f"/{COMPACTION}")]
    try:
        begun = [json.loads(store.read(path)) for path in records]
    except FileNotFoundError:  # it ended after the list was made
        return ledger_files(store, step)
    known = set(paths)
    replaced = {path for record in begun if record["file"] in known for path in record["replaces"]}
    return [path for path in paths if path.endswith(".parquet") and path not in replaced]


def record_run(
    store: Store,
    run_id: str,
    kind: str,
    snapshot: str = "",
    git_revision: str | None = None,
    config_hash: str | None = None,
    parent_run_id: str | None = None,
) -> None:
    """Record a run, schema ``RUNS``; a second record of the same run replaces the first.

    Args:
        store: The corpus.
        run_id: Id of the tracked run.
        kind: Kind of the run: mine, cluster, publish, pretrain ...
        snapshot: Name of the snapshot (``v0003``) that the run made or read; empty for none.
        git_revision: Git revision of the code; None if unknown.
        config_hash: Digest of the configuration; None if unknown.
        parent_run_id: Id of the run that this run continues or is a part of; None for none.
    """
    row = {
        "run_id": run_id,
        "kind": kind,
        "snapshot": snapshot,
        "git_revision": git_revision,
        "config_hash": config_hash,
        "parent_run_id": parent_run_id,
    }
    store.write(run_path(run_id), seal_json(row))


def read_runs(store: Store) -> pa.Table:
    """Read the recorded runs, schema ``RUNS``."""
    with ThreadPoolExecutor(_THREADS) as pool:
        paths, remedy = list(store.list(RUNS)), "delete it; the tracking server still has the run"
        contents = zip(paths, pool.map(store.read, paths), strict=True)
        rows = [open_json(data, f"{store.uri}/{path}", remedy) for path, data in contents]
    return pa.Table.from_pylist(rows, schema=RUNS_SCHEMA)


READERS: dict[str, Callable[[Store], pa.Table]] = {"attempts": read_attempts, "runs": read_runs}
"""Function that reads each table, by the name of the table."""
