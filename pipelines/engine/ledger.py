"""The ledger: one row per attempt at an item, even if the part with its output was never committed.

A worker writes a small file with each part. ``compact_ledger`` joins them, so that the ledger of ten million videos has
hundreds of files.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from mfhq.corpus_tables import COMPACTION, LEDGER_REMEDY, ledger_files
from mfhq.parquet import from_parquet, to_parquet
from mfhq.paths import LEDGER, ledger_path
from mfhq.schema import ATTEMPTS
from mfhq.store import Store

COMPACTED = "compacted-"
"""Beginning of the name of a compacted file; its number of rows follows."""

FULL_ROWS = 500_000
"""Number of rows of a compacted file, about 15 MB; a file of half as many is not compacted again."""

SMALL_FILES = 32
"""Upper bound on the files of one step and fingerprint that are left as they are."""

FILES_AT_ONCE = 4096
"""Upper bound on the files that one compacted file replaces."""

READERS = 16
"""Number of files that are read or deleted at the same time."""


@dataclass
class Attempts:
    """Attempts of one step in one run, collected until their part is written."""

    step: str
    fingerprint: str
    run_id: str
    rows: list[dict[str, Any]] = field(default_factory=list)

    def add(self, rows: pa.Table, key: str, attempts: list[int], errors: dict[str, str], seconds: float) -> None:
        """Add one attempt for each output row.

        Args:
            rows: Output rows of the step.
            key: The column that identifies an item.
            attempts: Number of the attempt at each row's item, counted from 1.
            errors: Id of each failed item to its traceback.
            seconds: Time spent on all rows together; each row is charged an equal share.
        """
        columns = (rows[name].to_pylist() for name in (key, "status", "reason"))
        for index, (item, status, reason, attempt) in enumerate(zip(*columns, attempts, strict=True)):
            self.rows.append(
                {
                    "item_id": item,
                    "step": self.step,
                    "fingerprint": self.fingerprint,
                    "attempt": attempt,
                    "status": status,
                    "reason": reason,
                    "error": errors.get(item),
                    "seconds": seconds / rows.num_rows,
                    "bytes": rows.slice(index, 1).nbytes,
                    "host": platform.node(),
                    "run_id": self.run_id,
                }
            )

    def write(self, store: Store, shard: int) -> None:
        """Write the collected attempts and clear them; called before the part's marker is created.

        Args:
            store: The corpus.
            shard: The logical shard of the items.
        """
        if self.rows:
            data = to_parquet(pa.Table.from_pylist(self.rows, schema=ATTEMPTS))
            digest = hashlib.sha256(data).hexdigest()[:12]
            store.write(ledger_path(self.step, self.fingerprint, shard, self.run_id, digest), data)
            self.rows = []


def compact_ledger(store: Store) -> int:
    """Join the small files of the ledger; every attempt stays in exactly one file that counts, also after a kill.

    The record of a compaction is written first (``mfhq.corpus_tables.COMPACTION``), then the new file, which from then
    on counts instead of the others; then the others and the record are deleted. A later call ends an interrupted one.
    Of two calls at once, the second leaves the folders alone that the first works on.

    Args:
        store: The corpus.

    Returns:
        Number of files that were replaced.
    """
    end_compactions(store)
    folders: defaultdict[str, list[str]] = defaultdict(list)
    for path in ledger_files(store):
        if not _is_full(path):
            folders[path.rpartition("/")[0]].append(path)
    return sum(_compact_folder(store, f, paths) for f, paths in folders.items() if len(paths) > SMALL_FILES)


def end_compactions(store: Store) -> None:
    """End the compactions of calls that were killed: a new file that exists replaces the others.

    Args:
        store: The corpus.
    """
    for path in [path for path in store.list(LEDGER) if path.endswith(f"/{COMPACTION}")]:
        record = json.loads(store.read(path))
        if store.exists(record["file"]):
            _delete(store, record["replaces"])
        store.delete(path)


def _compact_folder(store: Store, folder: str, paths: Sequence[str]) -> int:
    replaced = 0
    for names, rows in _batches(store, paths):
        data = to_parquet(rows)
        digest = hashlib.sha256(data).hexdigest()[:12]
        file = f"{folder}/{COMPACTED}{rows.num_rows:08d}-{digest}.parquet"
        record = json.dumps({"file": file, "replaces": names}).encode()
        if not store.create(f"{folder}/{COMPACTION}", record):
            break  # another call works on this folder
        store.write(file, data)
        _delete(store, names)
        store.delete(f"{folder}/{COMPACTION}")
        replaced += len(names)
    return replaced


def _batches(store: Store, paths: Sequence[str]) -> Iterator[tuple[list[str], pa.Table]]:
    """Yield the files and the rows of each compacted file to be."""
    names, tables = list[str](), list[pa.Table]()
    with ThreadPoolExecutor(READERS) as pool:
        for start in range(0, len(paths), READERS * 4):
            some = paths[start : start + READERS * 4]
            tables += pool.map(lambda path: _read_file(store, path), some)
            names += some
            if sum(table.num_rows for table in tables) >= FULL_ROWS or len(names) >= FILES_AT_ONCE:
                yield names, pa.concat_tables(tables)
                names, tables = [], []
    if len(names) > 1:
        yield names, pa.concat_tables(tables)


def _read_file(store: Store, path: str) -> pa.Table:
    return from_parquet(store.read(path), ATTEMPTS, None, f"{store.uri}/{path}", LEDGER_REMEDY)


def _delete(store: Store, paths: Sequence[str]) -> None:
    with ThreadPoolExecutor(READERS) as pool:
        list(pool.map(store.delete, paths))


def _is_full(path: str) -> bool:
    name = path.rpartition("/")[2]
    rows = name.removeprefix(COMPACTED).partition("-")[0] if name.startswith(COMPACTED) else "0"
    return int(rows) >= FULL_ROWS // 2
