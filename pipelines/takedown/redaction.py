"""Redaction of published snapshots: they stay readable, and their published digest stays on record."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mfhq.manifest import FileEntry, Manifest, TableEntry, read_manifest, snapshot_digest, versions
from mfhq.parquet import from_parquet, to_parquet
from mfhq.paths import BIOMETRIC, snapshot_path
from mfhq.pruning import collect_references
from mfhq.schema import TABLES, schema_hash, stored_schema
from mfhq.store import Store
from mfhq.takedowns import DenyList
from pipelines.identity.vector_lists import lists_to_vectors
from pipelines.publishing.table_digest import RowSum, sum_rows
from pipelines.publishing.table_files import store_file
from pipelines.sharing.snapshot_cards import renew_cards
from pipelines.takedown.rewrite import Changes, erase_ranges, redact_table

TABLE_FOLDERS = ("tables/", f"{BIOMETRIC}tables/")


@dataclass
class _PublishedFiles:
    """Published files that are redacted; each is read once, even if several snapshots share it."""

    store: Store
    denied: DenyList
    entries: dict[str, FileEntry | None] = field(default_factory=dict)
    """Path of a file to the file that replaces it; None if no row is left."""
    ranges: set[tuple[str, int, int]] = field(default_factory=set)

    def pruned(self, name: str, file: FileEntry) -> FileEntry | None:
        if file.path not in self.entries:
            self.entries[file.path] = self._prune(name, file)
        return self.entries[file.path]

    def _prune(self, name: str, file: FileEntry) -> FileEntry | None:
        try:
            table = pq.read_table(io.BytesIO(self.store.read(file.path)))
        except FileNotFoundError:  # the complete biometric prefix was deleted
            return file
        left = redact_table(table, self.denied)
        if left is table:
            return file
        self.ranges |= collect_references(table) - collect_references(left)
        return write_file(self.store, name, left) if left.num_rows else None


def write_file(store: Store, name: str, table: pa.Table) -> FileEntry:
    """Write a file of a published table, named by its content.

    Args:
        store: The corpus.
        name: The table.
        table: The rows.
    """
    return store_file(store, name, table.num_rows, to_parquet(table))


def redact_snapshots(store: Store, denied: DenyList) -> Changes:
    """Redact every snapshot that is not yet marked as clean of ``denied``.

    A snapshot's files are redacted first, then its manifest; in the end the old files are deleted. The counts of
    ``identities`` that lost tracks are computed anew. In the manifest, ``digest`` stays as it was published, and
    ``redacted_digest`` is the digest of the remaining rows. The funnel stays as it was published.

    Args:
        store: The corpus.
        denied: The take-downs.
    """
    files, done = _PublishedFiles(store, denied), Changes()
    for number in versions(store):
        path = snapshot_path(number)
        manifest = read_manifest(store, number)
        pending = DenyList(tuple(t for t in denied.takedowns if t.takedown_id not in manifest.clean_of))
        if not pending:
            continue
        tables = {name: _redact_entry(files, name, entry) for name, entry in manifest.tables.items()}
        changed = {name for name in tables if tables[name] != manifest.tables[name]}
        if changed & {"assignments", "identity_faces"} and "identities" in tables:
            tables["identities"] = _recount_identities(store, manifest, tables)
        if changed & {"assignments", "identity_faces"} and "diversity" in tables:
            tables["diversity"] = _prune_diversity(store, manifest, tables)
        clean = tuple(sorted({*manifest.clean_of, *(t.takedown_id for t in pending.takedowns)}))
        fresh = replace(manifest, tables=tables, clean_of=clean)
        if changed:
            took = [t.takedown_id for t in pending.takedowns if manifest.name in t.snapshots] or list(clean)
            fresh = replace(
                fresh,
                redacted_by=tuple(sorted({*manifest.redacted_by, *took})),
                redacted_digest=snapshot_digest(tables),
            )
            done.snapshots.append(manifest.name)
            fresh = renew_cards(store, fresh)
        done.add(erase_ranges(store, files.ranges))
        files.ranges.clear()
        store.write(path, fresh.to_json())
    done.add(_delete_unreferenced(store, files))
    return done


def _redact_entry(files: _PublishedFiles, name: str, entry: TableEntry) -> TableEntry:
    found = [files.pruned(name, file) for file in entry.files]
    kept = tuple(file for file in found if file is not None)
    if kept == entry.files:
        return entry
    return table_entry(files.store, name, kept, entry.schema(name))


def table_entry(store: Store, name: str, kept: tuple[FileEntry, ...], schema: pa.Schema | None = None) -> TableEntry:
    """Return the manifest's entry of a table.

    Args:
        store: The corpus.
        name: The table.
        kept: The files of the table.
        schema: Schema of the files; by default that of a file which is written now.
    """
    schema = schema if schema is not None else stored_schema(name)
    total = RowSum()
    for file in kept:
        total += sum_rows(from_parquet(store.read(file.path), schema))
    return TableEntry(total.rows, schema_hash(schema), total.digest(schema), kept)


def _table(store: Store, name: str, entry: TableEntry | None) -> pa.Table:
    return _read_files(store, name, entry.files if entry else ())


def _read_files(store: Store, name: str, files: tuple[FileEntry, ...]) -> pa.Table:
    schema = TABLES[name]
    return pa.concat_tables([schema.empty_table(), *(from_parquet(store.read(f.path), schema) for f in files)])


def _recount_identities(store: Store, before: Manifest, tables: dict[str, TableEntry]) -> TableEntry:
    """Write ``identities`` with counts and cohesion of the remaining tracks; a person who lost all has no row."""
    had = Counter(_table(store, "assignments", before.tables.get("assignments"))["identity_id"].to_pylist())
    assigned = _table(store, "assignments", tables.get("assignments")).to_pydict()
    videos = _table(store, "tracks", tables.get("tracks")).to_pydict()
    video_of = dict(zip(videos["track_id"], videos["video_id"], strict=True))
    faces = Counter(_table(store, "identity_faces", tables.get("identity_faces"))["identity_id"].to_pylist())
    tracks: dict[str, list[str]] = {}
    for track, identity in zip(assigned["track_id"], assigned["identity_id"], strict=True):
        tracks.setdefault(identity, []).append(track)
    vectors: dict[str, np.ndarray] = {}
    if any(len(tracks.get(identity, ())) != count for identity, count in had.items()):
        vectors = _means(store, tables.get("embeddings"))
    rows = []
    for row in _table(store, "identities", tables["identities"]).to_pylist():
        identity = row["identity_id"]
        left = tracks.get(identity, [])
        if had[identity] and not left:
            continue
        row["n_faces"] = faces[identity] if had[identity] else row["n_faces"]
        if len(left) != had[identity]:
            row |= {"n_tracks": len(left), "n_videos": len({video_of[track] for track in left})}
            row["cohesion"] = _cohesion([vectors[track] for track in sorted(left) if track in vectors])
        rows.append(row)
    table = pa.Table.from_pylist(rows, schema=TABLES["identities"])
    return table_entry(store, "identities", (write_file(store, "identities", table),) if rows else ())


def _prune_diversity(store: Store, before: Manifest, tables: dict[str, TableEntry]) -> TableEntry:
    """Write ``diversity`` without the people who lost a track or a chosen face, which its metrics included."""

    def counts(entries: Mapping[str, TableEntry]) -> list[Counter[str]]:
        names = ("assignments", "identity_faces")
        return [Counter(_table(store, name, entries.get(name))["identity_id"].to_pylist()) for name in names]

    old, new = counts(before.tables), counts(tables)
    table = _table(store, "diversity", tables["diversity"])
    same = [all(o[i] == n[i] for o, n in zip(old, new, strict=True)) for i in table["identity_id"].to_pylist()]
    kept = table.filter(pa.array(same, pa.bool_()))
    return table_entry(store, "diversity", (write_file(store, "diversity", kept),) if kept.num_rows else ())


def _means(store: Store, entry: TableEntry | None) -> dict[str, np.ndarray]:
    try:
        table = _table(store, "embeddings", entry)
    except FileNotFoundError:
        return {}
    table = table.filter(pa.array([face == "" for face in table["face_id"].to_pylist()], pa.bool_()))
    return dict(zip(table["track_id"].to_pylist(), lists_to_vectors(table), strict=True))


def _cohesion(vectors: list[np.ndarray]) -> float | None:
    if not vectors:
        return None
    mean = np.mean(vectors, axis=0)
    return round(float(np.mean(np.array(vectors) @ (mean / max(float(np.linalg.norm(mean)), 1e-9)))), 4)


def list_published_image_files(store: Store) -> set[str]:
    """Return the packed files that the ``faces`` and ``views`` of any snapshot refer to."""
    found, read = set[str](), set[str]()
    for number in versions(store):
        tables = read_manifest(store, number).tables
        for name, columns in (("faces", ["crop", "matte"]), ("views", ["image", "matte"])):
            for file in tables[name].files if name in tables else ():
                if file.path not in read:
                    read.add(file.path)
                    table = pq.read_table(io.BytesIO(store.read(file.path)), columns=columns)
                    found |= {path for path, _, _ in collect_references(table)}
    return found


def _delete_unreferenced(store: Store, files: _PublishedFiles) -> Changes:
    """Delete files of published tables that no snapshot names (any more) and that hold removed content."""
    named = {
        file.path
        for number in versions(store)
        for entry in read_manifest(store, number).tables.values()
        for file in entry.files
    }
    done = Changes()
    for folder in TABLE_FOLDERS:
        for path in list(store.list(folder)):
            if path in named or not path.endswith(".parquet"):
                continue
            table = pq.read_table(io.BytesIO(store.read(path)))
            if redact_table(table, files.denied) is not table:
                store.delete(path)
                done.files += 1
    return done
