"""Manifest of a snapshot: the files of each table, and digests of the rows."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import pyarrow as pa

from mfhq.ids import digest
from mfhq.paths import SNAPSHOTS
from mfhq.schema import NOT_DIGESTED, TABLES, schema_hash, stored_schema
from mfhq.store import Store


@dataclass(frozen=True)
class FileEntry:
    """File of a published table."""

    path: str
    """Path of the file in the corpus."""
    rows: int
    """Number of rows in the file."""
    n_bytes: int
    """Size of the file, bytes."""
    sha256: str
    """Digest of the file's bytes, hexadecimal."""


@dataclass(frozen=True)
class TableEntry:
    """Published table of a snapshot."""

    rows: int
    """Number of rows in all files."""
    schema_hash: str
    """Hash of the table's schema."""
    digest: str
    """Digest of the rows, not of the files (``pipelines.publishing.table_digest``)."""
    files: tuple[FileEntry, ...]
    """Files of the table."""

    def schema(self, name: str) -> pa.Schema:
        """Return the schema of the files: that of the view if an earlier version wrote them, else the stored one.

        Args:
            name: Name of the table.
        """
        whole = TABLES[name]
        return whole if self.schema_hash == schema_hash(whole) else stored_schema(name)


@dataclass(frozen=True)
class Manifest:
    """Contents of a snapshot's manifest, ``snapshots/vNNNN.json``."""

    version: int
    """Number of the snapshot."""
    digest: str
    """Digest of the rows that were published, in all tables except ``NOT_DIGESTED``; independent of the machine."""
    tables: dict[str, TableEntry]
    """Tables by name."""
    parent: int
    """Version of the snapshot before this one; 0 for none."""
    created_at: str
    """Time at which the snapshot was published, ISO 8601."""
    run_id: str
    """Id of the run that published the snapshot."""
    about: dict[str, Any] = field(default_factory=dict)
    """Origin of the rows: publish preset, fingerprints of the steps, digest of the clustering."""
    clean_of: tuple[str, ...] = ()
    """Ids of the take-downs whose withdrawn rows are not in the files of this snapshot."""
    redacted_by: tuple[str, ...] = ()
    """Ids of the take-downs that removed rows after the snapshot was published; ``digest`` stays as published."""
    redacted_digest: str = ""
    """Digest of the remaining rows; empty if no rows were removed."""

    @property
    def name(self) -> str:
        """Name of the snapshot, for example ``v0003``."""
        return f"v{self.version:04d}"

    @property
    def meshes_apart(self) -> bool:
        """True if the files of ``faces`` hold no meshes; those of earlier versions do."""
        faces = self.tables.get("faces")
        return faces is None or faces.schema_hash == schema_hash(stored_schema("faces"))

    def to_json(self) -> bytes:
        """Return the contents of the manifest's file."""
        return json.dumps(asdict(self), indent=1, sort_keys=True).encode()

    @classmethod
    def from_json(cls, data: bytes) -> Manifest:
        """Parse the result of ``to_json``."""
        row = json.loads(data)
        tables = {
            name: TableEntry(**{**entry, "files": tuple(FileEntry(**file) for file in entry["files"])})
            for name, entry in row.pop("tables").items()
        }
        row |= {name: tuple(row.get(name, ())) for name in ("clean_of", "redacted_by")}
        return cls(tables=tables, **row)


def snapshot_digest(tables: Mapping[str, TableEntry]) -> str:
    """Return the digest of a snapshot with these tables; a table without rows does not change the digest."""
    return digest(sorted([name, t.digest] for name, t in tables.items() if t.rows and name not in NOT_DIGESTED), 64)


def versions(store: Store) -> Iterator[int]:
    """Yield the version number of every published snapshot, in ascending order."""
    for path in store.list(SNAPSHOTS):
        name = path.removeprefix(SNAPSHOTS).removesuffix(".json")
        if name.startswith("v") and name[1:].isdigit():
            yield int(name[1:])
