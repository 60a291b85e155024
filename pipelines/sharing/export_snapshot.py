"""Export of a snapshot into a folder, which appears as a whole or not at all."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock, Timeout

from mfhq.ids import digest_file
from mfhq.takedowns import token
from pipelines.sharing.exported_faces import (
    ExportCount,
    FaceBatch,
    ReadImage,
    Selection,
    count_nothing,
    stream_faces,
)
from pipelines.sharing.hf_shards import write_hf
from pipelines.sharing.lance_dataset import write_lance
from pipelines.sharing.webdataset_shards import write_webdataset

if TYPE_CHECKING:
    from mfhq.fenced_connection import FencedConnection

RECORD, DIGESTS = "export.json", "digests.parquet"
"""Files of an export: its record with the digest of every other file, and its digest list."""

_DIGESTED = pa.schema(
    [
        *(pa.field(name, pa.string()) for name in ("face", "track", "video", "person")),
        *(pa.field(name, pa.string()) for name in ("file", "crop_sha256", "matte_sha256")),
    ]
)
"""Columns of ``digests.parquet``: tokens of ids (``mfhq.takedowns.token``), the file, and the images' digests."""


class ExportError(ValueError):
    """Error of an export that cannot be made; one line with the way out."""


@dataclass(frozen=True)
class ExportRun:
    """Origin of an export, for its record."""

    run_id: str
    """Id under which the corpus records the export (kind ``export`` of the view ``runs``)."""
    snapshot: str
    """Name of the snapshot."""
    digest: str
    """Digest of the snapshot's rows."""


def write_export(
    connection: FencedConnection,
    read_image: ReadImage,
    folder: Path,
    form: str,
    selection: Selection,
    run: ExportRun,
    finish: Callable[[Path, ExportCount], None],
) -> ExportCount:
    """Write the chosen faces of a snapshot, with the memory of a shard at most.

    All files are written into a hidden folder beside it, which is renamed at the end. What a killed export left is
    deleted by the next one to the same folder.

    Args:
        connection: Connection to the snapshot.
        read_image: Function that reads an image.
        folder: Folder of the export; it must not exist, or be empty.
        form: ``webdataset``, ``lance`` or ``hf``.
        selection: Choice of faces and columns.
        run: Origin of the export.
        finish: Function that is called with the hidden folder before it is renamed: it adds files, records the run.

    Raises:
        ExportError: The folder has files, another export writes it, or no face may be exported.
        CatalogError: An image is missing or damaged.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ExportError(f"{folder}: is there already; name another folder, or delete this one")
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = folder.parent / f".{folder.name}.partial"
    lock = FileLock(f"{partial}.lock", timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise ExportError(f"{folder}: another export is writing it; wait for its end, or name another") from error
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        count = count_nothing()
        batches = stream_faces(connection, read_image, selection, count)
        _write_digests(partial / DIGESTS, _WRITERS[form](partial, batches, selection))
        if not count.faces:
            raise ExportError(_explain_nothing(run.snapshot, count))
        finish(partial, count)
        _write_record(partial, form, selection, run, count)
        partial.replace(folder)
        return count
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        lock.release()
        Path(lock.lock_file).unlink(missing_ok=True)


_Writer = Callable[[Path, Iterator[FaceBatch], Selection], Iterator[tuple[FaceBatch, str]]]

_WRITERS: dict[str, _Writer] = {
    "webdataset": lambda folder, batches, _: write_webdataset(folder, batches),
    "lance": write_lance,
    "hf": write_hf,
}
FORMS = tuple(_WRITERS)
"""Names of the formats."""


def _write_digests(path: Path, written: Iterator[tuple[FaceBatch, str]]) -> None:
    """Write the digest list, by which a copy of a withdrawn face is found without naming it."""
    with pq.ParquetWriter(path, _DIGESTED, compression="zstd") as writer:
        for batch, file in written:
            names = ("face_id", "track_id", "video_id", "identity_id")
            columns = [[token(value) for value in batch.rows[name].to_pylist()] for name in names]
            crops = [hashlib.sha256(crop).hexdigest() for crop in batch.crops]
            mattes = [matte and hashlib.sha256(matte).hexdigest() for matte in batch.mattes]
            arrays = [*columns, [file] * len(crops), crops, mattes]
            writer.write_table(pa.table([pa.array(values, pa.string()) for values in arrays], schema=_DIGESTED))


def _write_record(folder: Path, form: str, selection: Selection, run: ExportRun, count: ExportCount) -> None:
    files = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        with path.open("rb") as file:
            name = path.relative_to(folder).as_posix()
            files.append({"path": name, "bytes": path.stat().st_size, "sha256": digest_file(file)})
    record: dict[str, Any] = {
        "run_id": run.run_id,
        "snapshot": run.snapshot,
        "snapshot_digest": run.digest,
        "format": form,
        "meshes": selection.meshes,
        "biometric": selection.biometric,
        "people": count.people,
        "faces": dict(count.faces),
        "refused": dict(count.refused),
        "files": files,
    }
    (folder / RECORD).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def _explain_nothing(snapshot: str, count: ExportCount) -> str:
    if not count.refused:
        return f"{snapshot}: no face is chosen in it; `ffavatar publish` chooses faces of people"
    reasons = ", ".join(f"{reason} {n}" for reason, n in count.refused.most_common())
    return (
        f"{snapshot}: none of its {count.refused.total()} faces may be exported ({reasons}); state `licence` and "
        "`consent` in the source list and mine it again, or give --unclear for licences that are not known"
    )
