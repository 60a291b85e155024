"""A snapshot's manifest: which files hold which table, and the digest of it all."""

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
    """A file of a published table."""

    path: str
    rows: int
    n_bytes: int
    sha256: str


@dataclass(frozen=True)
class TableEntry:
    """A published table. ``digest`` is of its rows (``pipelines.publishing.table_digest``), not of the files."""

    rows: int
    schema_hash: str
    digest: str
    files: tuple[FileEntry, ...]


@dataclass(frozen=True)
class Manifest:
    """What ``snapshots/vNNNN.json`` holds."""

    version: int
    digest: str
    """Of the rows of every table but ``NOT_DIGESTED``: the same corpus content gives the same digest anywhere."""
    tables: dict[str, TableEntry]
    parent: int
    """The version before it; 0 for none."""
    created_at: str
    run_id: str
    about: dict[str, Any] = field(default_factory=dict)
    """What it was made from: preset, fingerprints of the steps, digest of the clustering."""
    clean_of: tuple[str, ...] = ()
    """Take-downs that were applied when it was published, or to its files since."""
    redacted_by: tuple[str, ...] = ()
    """Those of them that took something out of its files: ``digest`` stays on record, but its rows have another now."""
    redacted_digest: str = ""
    """Of the rows that are left; empty where nothing was taken out."""

    @property
    def name(self) -> str:
        """For example ``v0003``."""
        return f"v{self.version:04d}"

    def to_json(self) -> bytes:
        """As it stands in the corpus."""
        return json.dumps(asdict(self), indent=1, sort_keys=True).encode()

    @classmethod
    def from_json(cls, data: bytes) -> Manifest:
        """What ``to_json`` wrote."""
        row = json.loads(data)
        tables = {
            name: TableEntry(**{**entry, "files": tuple(FileEntry(**file) for file in entry["files"])})
            for name, entry in row.pop("tables").items()
        }
        row |= {name: tuple(row.get(name, ())) for name in ("clean_of", "redacted_by")}
        return cls(tables=tables, **row)


def snapshot_digest(tables: Mapping[str, TableEntry]) -> str:
    """The digest of a snapshot with these tables; an empty table counts as none."""
    return digest(sorted([name, t.digest] for name, t in tables.items() if t.rows and name not in NOT_DIGESTED), 64)


def versions(store: Store) -> Iterator[int]:
    """Every published version, ascending."""
    for path in store.list(SNAPSHOTS):
        name = path.removeprefix(SNAPSHOTS).removesuffix(".json")
        if name.startswith("v") and name[1:].isdigit():
            yield int(name[1:])
