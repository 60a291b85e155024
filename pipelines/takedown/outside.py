"""Take-downs outside the corpus: logged tables and images of runs, logs, and files that killed processes left.

What runs logged is removed or written again. Other files that name something withdrawn are listed, with their digest.
"""

from __future__ import annotations

import io
import os
import re
import shutil
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mfhq.ids import digest_file

IMAGE_FOLDERS = ("pictures", "images")
"""Folders among a run's artifacts with images of the people that it saw."""
RESIDUE = "ffavatar-*"
"""Pattern of the project's files and folders in ``TMPDIR``."""
ABANDONED_S = 3600
"""Age (seconds) of a file in ``TMPDIR`` above which its process is taken to have been killed."""
MODELS = (".safetensors", ".ckpt", ".pt", ".ply")
"""Ends of the names of checkpoints and avatars."""
_CHUNK_BYTES = 16 << 20


@dataclass(frozen=True)
class OutsideReport:
    """Result of ``sweep_outside``."""

    removed: tuple[Path, ...]
    """Files that were deleted or written again."""
    left: tuple[tuple[Path, str], ...]
    """Files that name something withdrawn, with their sha256."""


def sweep_outside(
    roots: Sequence[Path], temporary: Path, names: Collection[str], runs: Collection[str]
) -> OutsideReport:
    """Remove what a take-down names from files outside the corpus.

    Images that exposed runs logged are deleted, and rows that name something are removed from logged tables. So are the
    user's files of this project in ``TMPDIR`` that nobody has written for ``ABANDONED_S``. Models of exposed runs, and
    all other files that name something, stay and are listed.

    Args:
        roots: Folders of the tracking server's artifacts, logs and settings.
        temporary: The folder ``TMPDIR``.
        names: The ids and URIs that the take-downs name.
        runs: Ids of the runs that read a snapshot with withdrawn data.
    """
    removed, left = list[Path](), list[tuple[Path, str]]()
    for path in sorted(temporary.glob(RESIDUE)):
        state = path.lstat()
        if state.st_uid == os.getuid() and time.time() - state.st_mtime > ABANDONED_S:
            removed.append(path)
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    needles = [name for name in names if len(name) >= 4]
    for path in (path for root in roots for path in sorted(root.rglob("*")) if path.is_file()):
        if _is_image_of(path, runs):
            path.unlink()
            removed.append(path)
        elif path.suffix == ".parquet" and _without_rows(path, needles):
            removed.append(path)
        elif _is_model_of(path, runs) or any(needle in str(path) for needle in needles) or _quotes(path, needles):
            with path.open("rb") as file:
                left.append((path, digest_file(file)))
    return OutsideReport(tuple(removed), tuple(left))


def _is_image_of(path: Path, runs: Collection[str]) -> bool:
    parts = path.parts
    return any(part in runs for part in parts) and any(folder in parts for folder in IMAGE_FOLDERS)


def _is_model_of(path: Path, runs: Collection[str]) -> bool:
    return any(part in runs for part in path.parts) and (path.suffix in MODELS or path.name.startswith("checkpoint"))


def _without_rows(path: Path, names: Sequence[str]) -> bool:
    """Write a table again without the rows of which a text is one of the names; return True if there were any."""
    try:
        table = pq.read_table(io.BytesIO(path.read_bytes()))
    except (pa.ArrowException, OSError):
        return False
    wanted, keep = pa.array(list(names), pa.string()), pa.array([True] * table.num_rows, pa.bool_())
    for column in table.columns:
        if pa.types.is_string(column.type) and len(column):
            keep = pc.and_(keep, pc.invert(pc.is_in(column.combine_chunks(), value_set=wanted)))
    kept = table.filter(keep)
    if kept.num_rows < table.num_rows:
        pq.write_table(kept, path, compression="zstd")
    return bool(kept.num_rows < table.num_rows)


def _quotes(path: Path, names: Sequence[str]) -> bool:
    if not names:
        return False
    pattern, overlap = re.compile(b"|".join(re.escape(name.encode()) for name in names)), max(map(len, names)) * 4
    return any(pattern.search(block) for block in _blocks(path, overlap))


def _blocks(path: Path, overlap: int) -> Iterator[bytes]:
    """Yield a file's bytes in blocks; each begins with the end of the block before."""
    end = b""
    with path.open("rb") as file:
        while block := file.read(_CHUNK_BYTES):
            yield end + block
            end = (end + block)[-overlap:]
