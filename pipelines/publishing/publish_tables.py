"""Write, audit, commit: tables into files named by their content, then one conditional create."""

from __future__ import annotations

import datetime
import hashlib
import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from mfhq.manifest import FileEntry, Manifest, TableEntry, snapshot_digest, versions
from mfhq.parquet import from_parquet, to_parquet
from mfhq.paths import snapshot_path, table_path
from mfhq.schema import NOT_DIGESTED, TABLES, key_of, schema_hash
from mfhq.store import Store
from mfhq.takedowns import Denied, denied_by_all, takedowns_table
from mfhq.views import published_files
from pipelines.publishing.audits import AuditError, audit
from pipelines.publishing.table_digest import table_digest

log = logging.getLogger(__name__)

FILE_BYTES = 512 << 20
"""Most bytes of a file, measured before compression."""


@dataclass(frozen=True)
class SnapshotRef:
    """A published snapshot."""

    version: str
    """For example ``v0003``."""
    digest: str
    created: bool
    """False when the latest snapshot already held exactly this, and is given back."""
    rows: Mapping[str, int]
    """Rows by table."""


def publish_tables(
    store: Store, tables: Mapping[str, pa.Table], *, run_id: str = "", about: Mapping[str, Any] | None = None
) -> SnapshotRef:
    """Publish tables as the corpus's next snapshot; tables that are not named are carried over from the one before.

    What a take-down names is left out of either, and ``takedowns`` holds those on record unless it is given.
    Of two that publish at once, each gets a snapshot, and the second one's holds the first one's other tables.

    Raises:
        AuditError: the tables do not fit ``mfhq.schema`` or each other; nothing is published.
        StoreError: the corpus can't be written.
    """
    if unknown := set(tables) - set(TABLES):
        raise AuditError(f"no table {sorted(unknown)[0]!r} in mfhq.schema; there are {', '.join(TABLES)}")
    while True:
        denied = denied_by_all(store)
        ready = {name: _in_order(denied.without(table), name) for name, table in tables.items()}
        if denied:
            ready.setdefault("takedowns", _in_order(takedowns_table(denied.takedowns), "takedowns"))
        latest = max(versions(store), default=0)
        parent = Manifest.from_json(store.read(snapshot_path(latest))) if latest else None
        carried = _carried(store, parent, set(ready)) if parent else {}
        held = {name: _read(store, name, entry) for name, entry in carried.items()}
        late = Denied(tuple(t for t in denied.takedowns if not parent or t.takedown_id not in parent.clean_of))
        for name, table in held.items():
            if (pruned := late.without(table)).num_rows != table.num_rows:
                ready[name] = _in_order(pruned, name)
        audit({**held, **ready}, store)
        everything = {**carried, **{name: _write(store, name, table) for name, table in ready.items()}}
        digest = snapshot_digest(everything)
        rows = {name: everything[name].rows for name in TABLES if name in everything}
        if parent and (parent.redacted_digest or parent.digest) == digest:
            return SnapshotRef(parent.name, digest, False, rows)
        manifest = Manifest(
            version=latest + 1,
            digest=digest,
            tables=everything,
            parent=latest,
            created_at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            run_id=run_id,
            about=dict(about or {}),
            clean_of=tuple(takedown.takedown_id for takedown in denied.takedowns),
        )
        data = manifest.to_json()
        if store.create(snapshot_path(manifest.version), data) or store.read(snapshot_path(manifest.version)) == data:
            log.info("published %s %s in %s", manifest.name, digest[:12], store.uri)
            return SnapshotRef(manifest.name, digest, True, rows)
        log.info("%s was taken by another publisher; trying the next", manifest.name)


def _carried(store: Store, parent: Manifest, ready: Collection[str]) -> dict[str, TableEntry]:
    """The tables of the snapshot before that have rows, less the new ones, and those that were deleted for privacy."""
    tables = {name: entry for name, entry in parent.tables.items() if name not in ready and entry.rows}
    return {name: entry for name, entry in tables.items() if published_files(store, parent, name)}


def _in_order(table: pa.Table, name: str) -> pa.Table:
    """The table with its schema's types and metadata; in the order of its key, unless the digest leaves it out."""
    schema = TABLES[name]
    if set(table.column_names) != set(schema.names):
        differing = sorted(set(table.column_names) ^ set(schema.names))
        raise AuditError(f"table {name}: columns {differing} are missing or not in mfhq.schema")
    rows = pa.table([table[f.name].cast(f.type) for f in schema], schema=schema)
    if name in NOT_DIGESTED:
        return rows
    return rows.sort_by([(column, "ascending") for column in key_of(schema)]).replace_schema_metadata(schema.metadata)


def _write(store: Store, name: str, table: pa.Table) -> TableEntry:
    """Write a table's files, as few as may be; a file that an earlier snapshot wrote is not written again."""
    n_files = max(1, -(-table.nbytes // FILE_BYTES)) if table.num_rows else 0
    step = -(-table.num_rows // n_files) if n_files else 1
    files = []
    for start in range(0, table.num_rows, step):
        part = table.slice(start, step)
        data = to_parquet(part)
        sha = hashlib.sha256(data).hexdigest()
        path = table_path(name, sha[:32])
        if not store.exists(path):
            store.write(path, data)
        files.append(FileEntry(path, part.num_rows, len(data), sha))
    return TableEntry(table.num_rows, schema_hash(TABLES[name]), table_digest(table), tuple(files))


def _read(store: Store, name: str, entry: TableEntry) -> pa.Table:
    schema = TABLES[name]
    if entry.schema_hash != schema_hash(schema):
        raise AuditError(f"table {name} of the snapshot before has an older schema; publish it again too")
    return pa.concat_tables([schema.empty_table(), *(from_parquet(store.read(f.path), schema) for f in entry.files)])
