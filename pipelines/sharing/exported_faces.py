"""Faces of an export: the chosen faces of a snapshot with their people, images and rights, read as a stream."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from mfhq.schema import EMBEDDINGS, FACES, IDENTITIES, IDENTITY_FACES
from pipelines.sharing.rights import UNCLEAR, judge_rights

if TYPE_CHECKING:
    from mfhq.fenced_connection import FencedConnection

ReadImage = Callable[[Mapping[str, Any]], bytes]
"""Function that reads an encoded image by its ``mfhq.schema.BLOB_REF``."""

BATCH_FACES = 256
"""Number of faces whose images are in memory at a time; with their images some 5 MB."""
_READERS = 8
"""Threads that read images: one waits for the disk or the network most of the time."""

_POSE = ("yaw_deg", "pitch_deg", "roll_deg")
_SCORES = ("score", "sharpness", "exposure", "occlusion")
_RIGHTS = ("licence", "consent")

PLAIN = pa.schema(
    [
        FACES.field("face_id"),
        *(IDENTITY_FACES.field(name) for name in ("identity_id", "rank", "why")),
        IDENTITIES.field("split"),
        *(FACES.field(name) for name in ("track_id", "video_id", "frame_index", "time_s")),
        *(FACES.field(name) for name in ("x0", "y0", "x1", "y1", "landmarks5", *_POSE, *_SCORES)),
        *(pa.field(name, pa.string()) for name in _RIGHTS),
    ]
)
"""Columns of every export, but for the images; ``licence`` and ``consent`` are names of ``rights``, not texts."""

MESH = FACES.field("mesh468")
EMBEDDING = pa.field("embedding", EMBEDDINGS.field("vector").type)


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Choice of what is exported."""

    meshes: bool = False
    """Export the 468 points of each face, pixels of the crop."""
    biometric: bool = False
    """Export each face's embedding, which identifies the person."""
    unclear: bool = False
    """Export also the faces of files whose licence is not stated or not recognised."""
    faces_per_shard: int = 10_000
    """Upper bound on the faces of one file of the export."""

    @property
    def schema(self) -> pa.Schema:
        """Columns of the export, but for the images."""
        extra = [*([MESH] if self.meshes else []), *([EMBEDDING] if self.biometric else [])]
        return pa.schema([*PLAIN, *extra])


@dataclass(frozen=True)
class FaceBatch:
    """Some faces of one shard."""

    shard: str
    """Name of the shard, such as ``train-00003``; a shard's faces are of one split."""
    rows: pa.Table
    """One row per face, with the columns of ``Selection.schema``."""
    crops: list[bytes]
    """Encoded image of each face, as it is stored."""
    mattes: list[bytes | None]
    """Encoded matte of each face; None where there is none."""


@dataclass
class ExportCount:
    """Number of exported and of refused faces; it grows while the stream is read."""

    faces: Counter[str]
    """Split to number of faces."""
    refused: Counter[str]
    """Reason (``rights.REASONS``) to number of faces."""
    people: int = 0
    """Number of people with an exported face."""


def count_nothing() -> ExportCount:
    """Return a count before the first face."""
    return ExportCount(Counter(), Counter())


def stream_faces(
    connection: FencedConnection, read_image: ReadImage, selection: Selection, count: ExportCount
) -> Iterator[FaceBatch]:
    """Yield the chosen faces that may be exported, by split, person and rank; a shard's batches follow one another.

    Args:
        connection: Connection to the snapshot; with ``embeddings`` if they are exported.
        read_image: Function that reads an image; its errors are passed on.
        selection: Choice of columns and files.
        count: Count to which each face is added.
    """
    split, number, in_shard, person = "", 0, 0, ""
    with ThreadPoolExecutor(_READERS) as pool:
        for rows in _allowed_batches(connection, selection, count):
            if rows[0]["split"] != split or in_shard + len(rows) > selection.faces_per_shard:
                number = number + 1 if rows[0]["split"] == split else 0
                split, in_shard = rows[0]["split"], 0
            in_shard += len(rows)
            crops = list(pool.map(lambda row: read_image(row["crop"]), rows))
            mattes = list(pool.map(lambda row: read_image(row["matte"]) if row["matte"] else None, rows))
            for row in rows:
                count.people += row["identity_id"] != person
                person = row["identity_id"]
            count.faces[split] += len(rows)
            yield FaceBatch(f"{split}-{number:05d}", pa.Table.from_pylist(rows, schema=selection.schema), crops, mattes)


def _allowed_batches(
    connection: FencedConnection, selection: Selection, count: ExportCount
) -> Iterator[list[dict[str, Any]]]:
    """Yield rows of one split that may be exported, at most ``BATCH_FACES`` at a time; count the others."""
    waiting: list[dict[str, Any]] = []
    most = min(BATCH_FACES, selection.faces_per_shard)
    for batch in connection.batches(faces_query(selection)):
        for row in batch.to_pylist():
            rights = judge_rights(row["licence"], row["consent"])
            if rights.refusal and not (selection.unclear and rights.refusal in UNCLEAR):
                count.refused[rights.refusal] += 1
                continue
            if waiting and (len(waiting) == most or waiting[0]["split"] != row["split"]):
                yield waiting
                waiting = []
            waiting.append(row | {"licence": rights.licence, "consent": rights.consent})
    if waiting:
        yield waiting


def faces_query(selection: Selection) -> str:
    """Return the query for all chosen faces that have a crop, by split, person and rank.

    Args:
        selection: Choice of columns.
    """
    columns = [f"f.{name}" for name in PLAIN.names if name in FACES.names]
    columns += ["c.identity_id", "c.rank", "c.why", "i.split", "v.licence", "v.consent", "f.crop", "f.matte"]
    columns += ["f.mesh468"] if selection.meshes else []
    columns += ["e.vector AS embedding"] if selection.biometric else []
    vectors = (
        "(SELECT face_id, first(vector ORDER BY model) AS vector FROM embeddings WHERE face_id <> '' GROUP BY ALL)"
    )
    return f"""
SELECT {", ".join(columns)}
FROM identity_faces c
JOIN identities i USING (identity_id)
JOIN faces f USING (face_id)
JOIN videos v ON v.video_id = f.video_id
{f"LEFT JOIN {vectors} e ON e.face_id = c.face_id" if selection.biometric else ""}
WHERE f.crop IS NOT NULL
ORDER BY coalesce(list_position(['train', 'val', 'test'], i.split), 9), i.split, c.identity_id, c.rank, c.face_id"""
