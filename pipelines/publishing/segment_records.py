"""Records of the files that were published of a segment, by a key of everything that they depend on."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import Any

import pyarrow as pa

from mfhq.integrity import check_opened, is_file_whole
from mfhq.manifest import FileEntry
from mfhq.parquet import to_parquet
from mfhq.paths import PUBLISHING
from mfhq.seals import DamagedFileError, open_json, seal_json
from mfhq.store import Store
from pipelines.publishing.table_digest import RowSum
from pipelines.publishing.table_files import TableFiles

STATES = pa.schema([pa.field("status", pa.string(), nullable=False), pa.field("reason", pa.string(), nullable=False)])
"""Schema of a file of states that the steps gave, before the thresholds."""
_THREADS = 4


@dataclass(frozen=True)
class Recorded:
    """Files that were published, and what else is known of them."""

    tables: Mapping[str, TableFiles] = field(default_factory=dict)
    """Files by table."""
    about: Mapping[str, Any] = field(default_factory=dict)
    """Plain values; no id, since a take-down does not look for any here."""


def read_record(store: Store, key: str, deep: bool = False) -> Recorded | None:
    """Return a record; None if there is none, or if one of its files is missing or damaged.

    Args:
        store: The corpus.
        key: The record's key; empty for none.
        deep: Compute the sha256 of large files too, which are else checked by their footer and when they are read.
    """
    try:
        record = open_json(store.read(_record_path(key)), _record_path(key), "publish again") if key else None
    except (FileNotFoundError, DamagedFileError):
        record = None
    if record is None:
        return None
    found = Recorded({name: _table_files(table) for name, table in record["tables"].items()}, record["about"])
    files = [file for table in found.tables.values() for file in table.files]
    is_whole = is_file_whole if deep else _is_opened_whole
    with ThreadPoolExecutor(_THREADS) as pool:
        return found if all(pool.map(lambda file: is_whole(store, file), files)) else None


def write_record(
    store: Store, key: str, tables: Mapping[str, TableFiles], about: Mapping[str, Any] | None = None
) -> Recorded:
    """Write a record, and return it.

    Args:
        store: The corpus.
        key: The record's key; empty to write none.
        tables: Files by table.
        about: Plain values.
    """
    if key:
        files = {
            name: {"rows": t.sum.rows, "lanes": t.sum.lanes, "files": [asdict(file) for file in t.files]}
            for name, t in tables.items()
        }
        store.write(_record_path(key), seal_json({"tables": files, "about": dict(about or {})}))
    return Recorded(tables, about or {})


def write_rows(store: Store, schema: pa.Schema, tables: Sequence[pa.Table]) -> TableFiles:
    """Write a file beside the records, with rows in the order of those of another file; there is no id in it.

    Args:
        store: The corpus.
        schema: Schema of the file.
        tables: The rows.
    """
    rows = pa.concat_tables([schema.empty_table(), *(table.cast(schema) for table in tables)])
    data = to_parquet(rows)
    file = FileEntry.of(f"{PUBLISHING}{hashlib.sha256(data).hexdigest()[:32]}.parquet", rows.num_rows, data)
    store.write(file.path, data)
    return TableFiles((file,), RowSum(rows.num_rows))


def _is_opened_whole(store: Store, file: FileEntry) -> bool:
    try:
        check_opened(store, file)
    except (FileNotFoundError, DamagedFileError):
        return False
    return True


def _record_path(key: str) -> str:
    return f"{PUBLISHING}{key}.json"


def _table_files(table: Mapping[str, Any]) -> TableFiles:
    a, b, c, d = table["lanes"]
    return TableFiles(tuple(FileEntry(**file) for file in table["files"]), RowSum(table["rows"], (a, b, c, d)))
