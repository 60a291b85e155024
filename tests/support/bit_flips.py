"""Flips of single bits in a corpus's files, and everything that a reader asks a corpus."""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from infra.storage import FolderStore, open_store
from mfhq.catalog import Catalog, CatalogError, Snapshot, read_blob
from mfhq.schema import BLOB_REF, TABLES
from mfhq.store import StoreError
from pipelines.engine.commits import read_step
from pipelines.engine.sources import read_sources
from pipelines.mining.schemas import SOURCES

KINDS = {
    "snapshot": ("tables/", ".parquet"),
    "part": ("steps/", ".parquet"),
    "images": ("steps/", ".blobs"),
    "marker": ("steps/", ".json"),
    "manifest": ("snapshots/", ".json"),
    "sources": ("sources/", ".parquet"),
    "ledger": ("ledger/", ".parquet"),
}
"""Kind of a file to the folder and the end of its path."""


def files_of(root: Path, kind: str) -> list[Path]:
    """Return the files of a kind."""
    folder, end = KINDS[kind]
    found = [*(root / folder).rglob(f"*{end}"), *(root / "biometric" / folder).rglob(f"*{end}")]
    return sorted(path for path in found if path.name != "step.json")


def flips(root: Path, n: int, seed: int) -> Iterator[tuple[str, Path, int]]:
    """Yield n flips as (kind, file, number of the bit), the kinds in turn."""
    draw = random.Random(seed)
    for i in range(n):
        kind = list(KINDS)[i % len(KINDS)]
        path = draw.choice(files_of(root, kind))
        yield kind, path, draw.randrange(8 * path.stat().st_size)


def flip(path: Path, bit: int) -> None:
    """Flip a bit of a file."""
    with path.open("r+b") as file:
        os.lseek(file.fileno(), bit // 8, os.SEEK_SET)
        (value,) = os.read(file.fileno(), 1)
        os.pwrite(file.fileno(), bytes([value ^ 1 << bit % 8]), bit // 8)


def answers(root: Path, steps: dict[str, str]) -> dict[str, Callable[[], Any]]:
    """Return questions to a corpus by name; each gives what a reader sees.

    Args:
        root: The corpus.
        steps: Step name to fingerprint.
    """
    store = open_store(root)
    assert isinstance(store, FolderStore)

    def snapshot() -> Snapshot:
        return Catalog(store).open()

    asked: dict[str, Callable[[], Any]] = {
        "versions": lambda: [(Catalog(store).open(v).digest, v) for v in Catalog(store).versions()],
        "sources": lambda: read_sources(store, SOURCES, "video_id"),
        **{f"table {name}": lambda name=name: snapshot().table(name) for name in TABLES},
        **{
            f"parts {name}": lambda name=name: pa.concat_tables(
                part for _, part in snapshot().parts(name, TABLES[name].names)
            )
            for name in ("faces", "tracks")
        },
        **{
            f"sql {name}": lambda name=name: snapshot().query(f"SELECT * FROM {name} ORDER BY ALL", biometric=True)
            for name in TABLES
        },
        **{f"step {name}": lambda name=name: read_step(store, name, steps[name], with_blobs=True) for name in steps},
        "images": lambda: [
            hashlib.sha256(read_blob(store, row[f.name])).hexdigest()
            for name in ("faces", "views")
            for row in snapshot().table(name).to_pylist()
            for f in TABLES[name]
            if f.type == BLOB_REF and row[f.name]
        ],
    }
    return asked


def ask(question: Callable[[], Any]) -> Any:
    """Return the answer, or the class of the error that says why there is none."""
    try:
        return question()
    except (CatalogError, StoreError) as error:
        return f"error: {error}"


def differs(before: Any, after: Any) -> bool:
    """Return True if an answer is neither the one before nor an error."""
    if isinstance(after, str) and after.startswith("error: "):
        return False
    return not before.equals(after) if isinstance(before, pa.Table) else bool(before != after)
