"""Publication of a segment: its rows of ``shots``, ``tracks``, ``faces``, ``meshes`` and ``embeddings``.

What was made of the same parts before is not made again: a record below ``publishing/`` names the files, by a key of
everything that they depend on. Shots, meshes and face embeddings depend on the steps' outputs alone; tracks and faces
on the thresholds too; the tracks' mean embeddings on the clustering.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from mfhq.ids import digest
from mfhq.integrity import is_file_whole
from mfhq.manifest import FileEntry
from mfhq.parquet import StoredRows
from mfhq.paths import PUBLISHING
from mfhq.schema import TABLES
from mfhq.seals import DamagedFileError, open_json, seal_json
from mfhq.store import Store
from pipelines.publishing.identity_lookup import IdentityLookup
from pipelines.publishing.publish_presets import Preset
from pipelines.publishing.segments import VideoSegment
from pipelines.publishing.step_outputs import SegmentOutputs, StepOutputs
from pipelines.publishing.table_digest import RowSum
from pipelines.publishing.table_files import MESH_ROW_GROUP, TableFiles, TableWriter, write_table
from pipelines.publishing.thresholds import apply_to_faces, apply_to_tracks, apply_where
from pipelines.publishing.unnest import (
    face_embeddings,
    faces_table,
    meshes_tables,
    shots_table,
    tracks_table,
    videos_table,
)

VERSION = 1
"""Version of the files that these functions make of a segment; raised when their content changes."""
CHUNK_FACES = 49_152
"""Number of faces that are in memory at once, with their meshes; the rows of a chunk are sorted by person."""
MINED, CUT = ("shots", "meshes", "embeddings"), ("tracks", "faces")


@dataclass(frozen=True)
class SegmentPublisher:
    """Publisher of segments under one preset and one clustering."""

    outputs: StepOutputs
    people: IdentityLookup
    preset: Preset
    where: str
    """SQL condition on the faces; empty for none."""
    sources: pa.Table
    """``mining.schemas.SOURCES`` rows, which ``where`` may ask for."""

    @property
    def store(self) -> Store:
        """The corpus."""
        return self.outputs.store

    def publish(self, segment: VideoSegment) -> dict[str, TableFiles]:
        """Write the tables of a segment, or find those that were written before.

        Args:
            segment: The segment.

        Returns:
            The files of each table.
        """
        own = SegmentOutputs(self.outputs, segment)
        taken_down = sorted(takedown.takedown_id for takedown in self.outputs.denied.takedowns)
        mined_key = digest([VERSION, own.parts_read(), taken_down])
        preset = {name: value for name, value in asdict(self.preset).items() if name != "name"}
        cut_key = "" if self.where else digest([mined_key, preset])
        mined, cut = _read_record(self.store, mined_key), _read_record(self.store, cut_key)
        if mined is None or cut is None:
            writers = {name: TableWriter(self.store, name) for name in (*(() if mined else MINED), *CUT)}
            for name, rows in self._rows(own, mined["meshes"] if mined else None):
                writers[name].write(rows)
            found = {name: writer.close() for name, writer in writers.items()}
            mined = mined or _write_record(self.store, mined_key, {name: found[name] for name in MINED})
            cut = _write_record(self.store, cut_key, {name: found[name] for name in CUT})
        tables = {**mined, **cut}
        return {**tables, "embeddings": tables["embeddings"] + self._means(mined_key, cut["tracks"])}

    def _rows(self, own: SegmentOutputs, meshes: TableFiles | None) -> Iterator[tuple[str, pa.Table]]:
        """Yield table names and rows; without those of ``MINED`` if there are files of meshes, whose order is kept."""
        order = StoredRows(self.store, [f.path for f in meshes.files], TABLES["meshes"]) if meshes else None
        at = 0
        for outputs in own.chunks(CHUNK_FACES, with_meshes=meshes is None):
            faces = faces_table(outputs)
            if order is None:
                faces = faces.take(self._sort(faces, ("video_id", "track_id", "face_id")))
            else:
                ids = order.read(at, faces.num_rows, ["face_id"])["face_id"]
                faces, at = faces.take(pc.index_in(ids, value_set=faces["face_id"].combine_chunks())), at + len(ids)
            yield from self._cut(outputs, faces)
            if order is None:
                yield "shots", shots_table(outputs).sort_by([("video_id", "ascending"), ("shot_index", "ascending")])
                embedded = face_embeddings(outputs)
                rows = pc.index_in(faces["face_id"], value_set=embedded["face_id"].combine_chunks())
                yield "embeddings", embedded.take(rows.drop_null())
                for part in meshes_tables(faces, outputs["scores"], 16 * MESH_ROW_GROUP):
                    yield "meshes", part

    def _cut(self, outputs: Mapping[str, pa.Table], faces: pa.Table) -> Iterator[tuple[str, pa.Table]]:
        faces = apply_to_faces(faces, self.preset)
        if self.where:
            videos = outputs["tracks"]["video_id"].combine_chunks()
            sources = self.sources.filter(pc.is_in(self.sources["video_id"], value_set=videos))
            faces = apply_where(faces, videos_table(sources, outputs), self.where)
        tracks = apply_to_tracks(tracks_table(outputs), faces, self.preset)
        yield "faces", faces
        yield "tracks", tracks.take(self._sort(tracks, ("video_id", "track_id")))

    def _sort(self, rows: pa.Table, then: Sequence[str]) -> pa.Array:
        """Return the order of rows by person, those without a person last, and by these columns."""
        keys = rows.select(list(then)).append_column("_person", self.people.identities_of(rows["track_id"]))
        return pc.sort_indices(keys, sort_keys=[("_person", "ascending"), *((name, "ascending") for name in then)])

    def _means(self, mined_key: str, tracks: TableFiles) -> TableFiles:
        """Write the mean embeddings of the segment's tracks."""
        if not self.people.means.num_rows or not tracks.files:
            return TableFiles()
        reader = StoredRows(self.store, [f.path for f in tracks.files], TABLES["tracks"])
        rows = self.people.means_of(reader.read(0, tracks.sum.rows, ["track_id"])["track_id"]).sort_by("track_id")
        content = hashlib.sha256(b"".join(rows["track_id"].cast(pa.binary()).to_pylist()))
        for chunk in rows["vector"].chunks:
            content.update(chunk.flatten().to_numpy().data)
        key = digest([mined_key, content.hexdigest()])
        found = _read_record(self.store, key)
        return (found or _write_record(self.store, key, {"means": write_table(self.store, "embeddings", [rows])}))[
            "means"
        ]


def _record_path(key: str) -> str:
    return f"{PUBLISHING}{key}.json"


def _read_record(store: Store, key: str) -> dict[str, TableFiles] | None:
    """Return the files of a record; None if there is none, or if one of the files is missing or damaged."""
    try:
        record = open_json(store.read(_record_path(key)), _record_path(key), "publish again") if key else None
    except (FileNotFoundError, DamagedFileError):
        record = None
    tables = {name: _table_files(table) for name, table in (record or {}).items()}
    files = [file for table in tables.values() for file in table.files]
    with ThreadPoolExecutor(4) as pool:
        return tables if record and all(pool.map(lambda file: is_file_whole(store, file), files)) else None


def _table_files(table: Mapping[str, Any]) -> TableFiles:
    a, b, c, d = table["lanes"]
    return TableFiles(tuple(FileEntry(**file) for file in table["files"]), RowSum(table["rows"], (a, b, c, d)))


def _write_record(store: Store, key: str, tables: dict[str, TableFiles]) -> dict[str, TableFiles]:
    if key:
        record = {
            name: {"rows": t.sum.rows, "lanes": t.sum.lanes, "files": [asdict(file) for file in t.files]}
            for name, t in tables.items()
        }
        store.write(_record_path(key), seal_json(record))
    return tables
