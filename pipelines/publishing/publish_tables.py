"""Publication of tables as a snapshot: write files named by their content, audit them, create the manifest."""

from __future__ import annotations

import datetime
import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from mfhq.integrity import check_files
from mfhq.manifest import Manifest, TableEntry, read_manifest, snapshot_digest, versions
from mfhq.parquet import from_parquet
from mfhq.paths import snapshot_path
from mfhq.schema import MESHES, NOT_DIGESTED, TABLES, key_of
from mfhq.store import Store
from mfhq.takedowns import DenyList, read_deny_list, takedowns_table
from mfhq.views import published_files
from pipelines.engine.commits import create_once
from pipelines.publishing.audits import audit_schema, audit_tables
from pipelines.publishing.table_files import TableFiles, conform, write_table
from pipelines.sharing.snapshot_cards import with_cards

log = logging.getLogger(__name__)

_CARRIED = (
    "the next snapshot would carry it on: run again what made this table (convert, review ...), or restore the file"
)


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
        tables: Table name to rows (``mfhq.schema.TABLES``); the meshes of ``faces`` are published as ``meshes``.
        run_id: The tracking run, for the manifest.
        about: Settings of the publication, for the manifest.

    Raises:
        AuditError: The tables do not fit ``mfhq.schema`` or each other; nothing is published.
        StoreError: The corpus cannot be written.
    """
    for name, table in tables.items():
        audit_schema(name, table)
    while True:
        denied = read_deny_list(store)
        fresh = write_tables(store, tables, denied)
        if (published := commit_snapshot(store, fresh, denied, run_id=run_id, about=about)) is not None:
            return published


def write_tables(store: Store, tables: Mapping[str, pa.Table], denied: DenyList) -> dict[str, TableFiles]:
    """Write tables that are in memory, without withdrawn rows, each sorted by its key.

    Args:
        store: The corpus.
        tables: Table name to rows.
        denied: The take-downs; unless ``tables`` has a table of them, they are written too.
    """
    tables = {name: denied.prune(table) for name, table in tables.items()}
    if denied:
        tables.setdefault("takedowns", takedowns_table(denied.takedowns))
    if "faces" in tables and "mesh468" in tables["faces"].column_names:
        tables["meshes"] = tables["faces"].select(MESHES.names)
        tables["faces"] = tables["faces"].drop_columns(["mesh468"])
    return {name: write_table(store, name, [_sorted(table, name)]) for name, table in tables.items()}


def commit_snapshot(
    store: Store,
    fresh: Mapping[str, TableFiles],
    denied: DenyList,
    *,
    run_id: str = "",
    about: Mapping[str, Any] | None = None,
) -> SnapshotRef | None:
    """Audit tables that are written and commit them as the next snapshot, with the other tables of the previous one.

    Args:
        store: The corpus.
        fresh: Table name to its files.
        denied: The take-downs whose rows the files lack.
        run_id: The tracking run, for the manifest.
        about: Settings of the publication, for the manifest.

    Returns:
        The snapshot; None if another take-down was recorded since ``denied`` was read.

    Raises:
        AuditError: The tables do not fit each other; nothing is published.
        StoreError: The corpus cannot be written.
    """
    while read_deny_list(store) == denied:
        latest = max(versions(store), default=0)
        parent = read_manifest(store, latest) if latest else None
        entries = {name: files.entry(name) for name, files in fresh.items()}
        carried = _carried_entries(store, parent, set(fresh)) if parent else {}
        check_files(store, [file for entry in carried.values() for file in entry.files], _CARRIED)
        changed = _without_withdrawn(store, parent, carried, denied) if parent else {}
        entries = {**carried, **changed, **entries}
        audited = {name for name, entry in parent.tables.items() if entries.get(name) == entry} if parent else set()
        audit_tables(store, entries, {*fresh, *changed} - audited)
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
        if create_once(store, snapshot_path(manifest.version), with_cards(store, manifest).to_json()):
            log.info("published %s %s in %s", manifest.name, digest[:12], store.uri)
            return SnapshotRef(manifest.name, digest, True, rows)
        log.info("%s was taken by another publisher; trying the next", manifest.name)
    return None


def _carried_entries(store: Store, parent: Manifest, fresh: Collection[str]) -> dict[str, TableEntry]:
    """Return the parent's tables that have rows, are not replaced, and were not deleted for privacy."""
    replaced = {*fresh, *(("meshes",) if "faces" in fresh else ())}
    tables = {name: entry for name, entry in parent.tables.items() if name not in replaced and entry.rows}
    return {name: entry for name, entry in tables.items() if published_files(store, parent, name)}


def _without_withdrawn(
    store: Store, parent: Manifest, carried: Mapping[str, TableEntry], denied: DenyList
) -> dict[str, TableEntry]:
    """Write those of the carried tables anew that hold rows which a take-down withdrew since they were published."""
    late = DenyList(tuple(t for t in denied.takedowns if t.takedown_id not in parent.clean_of))
    changed: dict[str, TableEntry] = {}
    for name, entry in carried.items() if late else ():
        parts = [from_parquet(store.read(file.path), entry.schema(name)) for file in entry.files]
        left = [late.prune(part) for part in parts]
        if sum(part.num_rows for part in left) != entry.rows:
            changed |= {
                n: f.entry(n) for n, f in write_tables(store, {name: pa.concat_tables(left)}, DenyList()).items()
            }
    return changed


def _sorted(table: pa.Table, name: str) -> pa.Table:
    rows = conform(table, name)
    if name in NOT_DIGESTED:
        return rows
    return rows.sort_by([(column, "ascending") for column in key_of(rows.schema)])
