"""Manifest of a snapshot: the files of each table, and the digest of their rows."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from mfhq.ids import digest
from mfhq.paths import SNAPSHOTS
from mfhq.schema import NOT_DIGESTED
from mfhq.store import Store


@dataclass(frozen=True)
class FileEntry:
    """File of a published table."""

    path: str
    rows: int
    n_bytes: int
    sha256: str


@dataclass(frozen=True)
class TableEntry:
    """Published table; ``digest`` is that of its rows (``pipelines.publishing.table_digest``), not of the files."""

    rows: int
    schema_hash: str
    digest: str
    files: tuple[FileEntry, ...]


@dataclass(frozen=True)
class Manifest:
    """Contents of ``snapshots/vNNNN.json``."""

    version: int
    digest: str
    """Digest of the rows of every table but ``NOT_DIGESTED``: the same rows give the same digest on every machine."""
    tables: dict[str, TableEntry]
    parent: int
    """Version before this one; 0 for none."""
    created_at: str
    run_id: str
    about: dict[str, Any] = field(default_factory=dict)
    """Origin: preset, fingerprints of the steps, digest of the clustering."""
    clean_of: tuple[str, ...] = ()
    """Ids of the take-downs that were applied when it was published, or to its files since."""
    redacted_by: tuple[str, ...] = ()
    """Ids of those that removed rows from its files: ``digest`` stays on record, but the rows have another one now."""
    redacted_digest: str = ""
    """Digest of the rows that are left; empty if nothing was removed."""

    @property
    def name(self) -> str:
        """Name of the snapshot, for example ``v0003``."""
        return f"v{self.version:04d}"

    def to_json(self) -> bytes:
        """Return the stored form."""
        return json.dumps(asdict(self), indent=1, sort_keys=True).encode()

    @classmethod
    def from_json(cls, data: bytes) -> Manifest:
        """Read what ``to_json`` wrote."""
        row = json.loads(data)
        tables = {
            name: TableEntry(**{**entry, "files": tuple(FileEntry(**file) for file in entry["files"])})
            for name, entry in row.pop("tables").items()
        }
        row |= {name: tuple(row.get(name, ())) for name in ("clean_of", "redacted_by")}
        return cls(tables=tables, **row)


def snapshot_digest(tables: Mapping[str, TableEntry]) -> str:
    """Return the digest of a snapshot with these tables; an empty table counts as none."""
    return digest(sorted([name, t.digest] for name, t in tables.items() if t.rows and name not in NOT_DIGESTED), 64)


def versions(store: Store) -> Iterator[int]:
    """Yield every published version, ascending."""
    for path in store.list(SNAPSHOTS):
        name = path.removeprefix(SNAPSHOTS).removesuffix(".json")
        if name.startswith("v") and name[1:].isdigit():
            yield int(name[1:])
