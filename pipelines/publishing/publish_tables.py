"""Publication of tables as a snapshot: audit the tables, write files named by their content, create the manifest."""

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
from mfhq.takedowns import DenyList, read_deny_list, takedowns_table
from mfhq.views import published_files
from pipelines.engine.commits import create_once
from pipelines.publishing.audits import AuditError, audit_tables
from pipelines.publishing.table_digest import table_digest

log = logging.getLogger(__name__)

FILE_BYTES = 512 << 20
"""Upper bound on the bytes of a file, measured before compression."""


@dataclass(frozen=True)
class SnapshotRef:
    """Version, digest and row counts of a published snapshot."""

    version: str
    """Name of the version, for example ``v0003``."""
    digest: str
    created: bool
    """False if the latest snapshot already had the same content; then this object describes that snapshot."""
    rows: Mapping[str, int]
    """Table name to number of rows."""


def publish_tables(
    store: Store, tables: Mapping[str, pa.Table], *, run_id: str = "", about: Mapping[str, Any] | None = None
) -> SnapshotRef:
    """Publish tables as the corpus's next snapshot; all other tables are carried over from the previous one.

    Rows that a take-down names are left out of the given and of the carried tables. If the table ``takedowns`` is not
    given, the take-downs on record are published. Two calls at the same time make two snapshots; the second one carries
    over the tables of the first that it does not replace.

    Args:
        store: The corpus.
        tables: Table name to rows (``mfhq.schema.TABLES``).
        run_id: The tracking run, for the manifest.
        about: Settings of the publication, for the manifest.

    Raises:
        AuditError: The tables do not fit ``mfhq.schema`` or each other; nothing is published.
        StoreError: The corpus cannot be written.
    """
    if unknown := set(tables) - set(TABLES):
        raise AuditError(f"no table {sorted(unknown)[0]!r} in mfhq.schema; there are {', '.join(TABLES)}")
    while True:
        denied = read_deny_list(store)
        fresh = {name: _conform(denied.prune(table), name) for name, table in tables.items()}
        if denied:
            fresh.setdefault("takedowns", _conform(takedowns_table(denied.takedowns), "takedowns"))
        latest = max(versions(store), default=0)
        parent = Manifest.from_json(store.read(snapshot_path(latest))) if latest else None
        carried_entries = _carried_entries(store, parent, set(fresh)) if parent else {}
        carried = {name: _read_table(store, name, entry) for name, entry in carried_entries.items()}
        late = DenyList(tuple(t for t in denied.takedowns if not parent or t.takedown_id not in parent.clean_of))
        for name, table in carried.items():
            if (pruned := late.prune(table)).num_rows != table.num_rows:
                fresh[name] = _conform(pruned, name)
        audit_tables({**carried, **fresh}, store)
        entries = {**carried_entries, **{name: _write_table(store, name, table) for name, table in fresh.items()}}
        digest = snapshot_digest(entries)
        rows = {name: entries[name].rows for name in TABLES if name in entries}
        if parent and (parent.redacted_digest or parent.digest) == digest:
            return SnapshotRef(parent.name, digest, False, rows)
        manifest = Manifest(
            version=latest + 1,
            digest=digest,
            tables=entries,
            parent=latest,
            created_at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            run_id=run_id,
            about=dict(about or {}),
            clean_of=tuple(takedown.takedown_id for takedown in denied.takedowns),
        )
        if create_once(store, snapshot_path(manifest.version), manifest.to_json()):
            log.info("published %s %s in %s", manifest.name, digest[:12], store.uri)
            return SnapshotRef(manifest.name, digest, True, rows)
        log.info("%s was taken by another publisher; trying the next", manifest.name)


def _carried_entries(store: Store, parent: Manifest, fresh: Collection[str]) -> dict[str, TableEntry]:
    """Return the parent's tables that have rows, are not replaced, and were not deleted for privacy."""
    tables = {name: entry for name, entry in parent.tables.items() if name not in fresh and entry.rows}
    return {name: entry for name, entry in tables.items() if published_files(store, parent, name)}


def _conform(table: pa.Table, name: str) -> pa.Table:
    """Cast a table to its schema, and sort it by its key, unless the snapshot's digest does not cover it."""
    schema = TABLES[name]
    if set(table.column_names) != set(schema.names):
        differing = sorted(set(table.column_names) ^ set(schema.names))
        raise AuditError(f"table {name}: columns {differing} are missing or not in mfhq.schema")
    rows = pa.table([table[f.name].cast(f.type) for f in schema], schema=schema)
    if name in NOT_DIGESTED:
        return rows
    return rows.sort_by([(column, "ascending") for column in key_of(schema)]).replace_schema_metadata(schema.metadata)


def _write_table(store: Store, name: str, table: pa.Table) -> TableEntry:
    """Write a table in as few files as ``FILE_BYTES`` allows; a file of an earlier snapshot is not written again."""
    n_files = max(1, -(-table.nbytes // FILE_BYTES)) if table.num_rows else 0
    step = -(-table.num_rows // n_files) if n_files else 1
    files = []
    for start in range(0, table.num_rows, step):
        rows = table.slice(start, step)
        data = to_parquet(rows)
        sha = hashlib.sha256(data).hexdigest()
        path = table_path(name, sha[:32])
        if not store.exists(path):
            store.write(path, data)
        files.append(FileEntry(path, rows.num_rows, len(data), sha))
    return TableEntry(table.num_rows, schema_hash(TABLES[name]), table_digest(table), tuple(files))


def _read_table(store: Store, name: str, entry: TableEntry) -> pa.Table:
    schema = TABLES[name]
    if entry.schema_hash != schema_hash(schema):
        raise AuditError(f"table {name} of the snapshot before has an older schema; publish it again too")
    return pa.concat_tables([schema.empty_table(), *(from_parquet(store.read(f.path), schema) for f in entry.files)])
