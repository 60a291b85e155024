"""Manifest of a snapshot: the files of each table, and digests of the rows."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import pyarrow as pa

from mfhq.ids import digest
from mfhq.paths import SNAPSHOTS, snapshot_path
from mfhq.schema import ADDED_COLUMNS, NOT_DIGESTED, TABLES, former_schema, schema_hash, stored_schema
from mfhq.seals import DamagedFileError, open_json, seal_json
from mfhq.store import Store

FORMAT = 2
"""Version of the format that is written: 1 has meshes among the faces, and neither seals nor page checksums."""
FEATURES = ("meshes",)
"""Feature that a reader of this format must support: the meshes are a table of their own."""

_REMEDY = "delete it, and publish again; older snapshots stay readable"


class FormatError(ValueError):
    """Error of a snapshot that a newer version of this project wrote; the message names what this one lacks."""


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
    footer_sha256: str = ""
    """Digest of the file's footer, hexadecimal; empty in format 1."""

    @classmethod
    def of(cls, path: str, rows: int, data: bytes) -> FileEntry:
        """Return the entry of a Parquet file with these bytes."""
        sha256 = hashlib.sha256(data).hexdigest()
        return cls(path, rows, len(data), sha256, hashlib.sha256(data[-footer_bytes(data[-8:]) :]).hexdigest())


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
        """Return the schema of the files: the stored one, or that of the earlier version that wrote them.

        Args:
            name: Name of the table.
        """
        earlier = (TABLES[name], former_schema(name))
        return next((schema for schema in earlier if self.schema_hash == schema_hash(schema)), stored_schema(name))

    def lacks(self, name: str) -> frozenset[str]:
        """Return the columns that were added since an earlier version wrote the files.

        Args:
            name: Name of the table.
        """
        return frozenset(ADDED_COLUMNS.get(name, ())) - set(self.schema(name).names)


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
    format: int = FORMAT
    """Version of the format."""
    requires: tuple[str, ...] = FEATURES
    """Features that a reader must know (``FEATURES``)."""

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
        return seal_json(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, data: bytes, where: str = "the manifest") -> Manifest:
        """Parse the result of ``to_json``, or a manifest of an earlier format.

        Args:
            data: The document.
            where: URI of the file, for errors.

        Raises:
            FormatError: A newer version wrote it.
            DamagedFileError: It is not the document that was written.
        """
        _check_format(data, where)
        row = {"format": 1, "requires": (), **open_json(data, where, _REMEDY)}
        try:
            tables = {
                name: TableEntry(**{**entry, "files": tuple(FileEntry(**file) for file in entry["files"])})
                for name, entry in row.pop("tables").items()
            }
            row |= {name: tuple(row.get(name, ())) for name in ("clean_of", "redacted_by", "requires")}
            return cls(tables=tables, **row)
        except (AttributeError, KeyError, TypeError) as error:
            raise DamagedFileError(f"{where}: is damaged (no manifest: {error}); {_REMEDY}") from error


def _check_format(data: bytes, where: str) -> None:
    """Raise ``FormatError`` for a newer format, whatever else the document holds."""
    try:
        row = json.loads(data)
    except (ValueError, RecursionError):
        return
    number, requires = (row.get("format", 1), row.get("requires") or ()) if isinstance(row, dict) else (1, ())
    newer = f"format {number}" if isinstance(number, int) and number > FORMAT else ""
    unknown = ", ".join(str(name) for name in requires if name not in FEATURES) if isinstance(requires, list) else ""
    if newer or unknown:
        knows = f"this version reads format {FORMAT} with {', '.join(FEATURES)}"
        lacks = " and ".join(part for part in (newer, unknown) if part)
        raise FormatError(f"{where}: was written by a newer version ({lacks}; {knows}); install a newer ffavatar")


def footer_bytes(end: bytes) -> int:
    """Return the size of a Parquet file's footer, with the eight bytes at its end.

    Args:
        end: The last eight bytes of the file.
    """
    return int.from_bytes(end[:4], "little") + 8


def read_manifest(store: Store, version: int) -> Manifest:
    """Read the manifest of a snapshot.

    Args:
        store: The corpus.
        version: Number of the snapshot.

    Raises:
        FormatError: A newer version wrote it.
        DamagedFileError: It is not the document that was written.
    """
    path = snapshot_path(version)
    return Manifest.from_json(store.read(path), f"{store.uri}/{path}")


def check_formats(store: Store) -> None:
    """Check that this version can read the format of every snapshot, damaged or not.

    Args:
        store: The corpus.

    Raises:
        FormatError: A newer version wrote one of the manifests.
    """
    for version in versions(store):
        path = snapshot_path(version)
        _check_format(store.read(path), f"{store.uri}/{path}")


def snapshot_digest(tables: Mapping[str, TableEntry]) -> str:
    """Return the digest of a snapshot with these tables; a table without rows does not change the digest."""
    return digest(sorted([name, t.digest] for name, t in tables.items() if t.rows and name not in NOT_DIGESTED), 64)


def versions(store: Store) -> Iterator[int]:
    """Yield the version number of every published snapshot, in ascending order."""
    for path in store.list(SNAPSHOTS):
        name = path.removeprefix(SNAPSHOTS).removesuffix(".json")
        if name.startswith("v") and name[1:].isdigit():
            yield int(name[1:])
