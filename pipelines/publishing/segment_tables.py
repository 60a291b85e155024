"""Publication of a segment: its rows of ``shots``, ``tracks``, ``faces``, ``meshes`` and ``embeddings``.

What was made of the same parts before is not made again (``segment_records``). Shots, meshes and face embeddings depend
on the steps' outputs alone; tracks and faces on the thresholds too; the tracks' mean embeddings on the clustering. With
other thresholds, tracks and faces are made from their published files, and from a small file of the states that the
steps gave; no output of a step is read.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

import pyarrow as pa
import pyarrow.compute as pc

from mfhq.ids import digest
from mfhq.parquet import StoredRows
from mfhq.schema import TABLES, stored_schema
from mfhq.store import Store
from pipelines.publishing.identity_lookup import IdentityLookup
from pipelines.publishing.publish_presets import Preset
from pipelines.publishing.segment_records import STATES, Recorded, read_record, write_record, write_rows
from pipelines.publishing.segments import VideoSegment
from pipelines.publishing.step_outputs import SegmentOutputs, StepOutputs
from pipelines.publishing.table_files import MESH_ROW_GROUP, TableFiles, TableWriter, write_table
from pipelines.publishing.thresholds import apply_to_faces, apply_to_tracks, apply_where, set_status
from pipelines.publishing.unnest import (
    face_embeddings,
    faces_table,
    meshes_tables,
    shots_table,
    tracks_table,
    videos_table,
)

VERSION = 3
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
    deep: bool = False
    """True computes the sha256 of large files before they are used again."""

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
        mined_key = self._mined_key(own)
        preset = {name: value for name, value in asdict(self.preset).items() if name != "name"}
        cut_key = "" if self.where else digest([mined_key, preset])
        mined, cut = (read_record(self.store, key, self.deep) for key in (mined_key, cut_key))
        if mined is None:
            mined = self._publish_mined(own, mined_key)
            cut = write_record(self.store, cut_key, {name: mined.tables[name] for name in CUT})
        elif cut is None:
            writers = {name: TableWriter(self.store, name) for name in CUT}
            for name, rows in self._cut_published(own, mined):
                writers[name].write(rows)
            cut = write_record(self.store, cut_key, {name: writer.close() for name, writer in writers.items()})
        tables = {name: (cut if name in CUT else mined).tables[name] for name in (*MINED, *CUT)}
        return {**tables, "embeddings": tables["embeddings"] + self._means(mined_key, tables["tracks"])}

    def _mined_key(self, own: SegmentOutputs) -> str:
        """Return the key of what the steps' outputs alone decide.

        A take-down counts where it withdrew something from one of the shards; other segments stay as they are.
        """
        shards = own.shards()
        denied = sorted(t.takedown_id for t in self.outputs.denied.takedowns if set(t.shards) & set(shards))
        known_key = digest([VERSION, "parts", list(own.segment.parts), own.parts_of_shards(), denied])
        if (known := read_record(self.store, known_key)) is not None:
            return str(known.about["mined_key"])
        key = digest([VERSION, own.parts_read(), denied])
        write_record(self.store, known_key, {}, {"mined_key": key})
        return key

    def _publish_mined(self, own: SegmentOutputs, key: str) -> Recorded:
        """Write all tables of a segment from the steps' outputs.

        The record's file of states has, of each chunk, those of its faces, then those of its tracks.
        """
        writers = {name: TableWriter(self.store, name) for name in (*MINED, *CUT)}
        videos = self._videos(own)
        states, chunks = list[pa.Table](), list[list[int]]()
        for outputs in own.chunks(CHUNK_FACES):
            faces, tracks = faces_table(outputs), tracks_table(outputs)
            faces = faces.take(self._sort(faces, ("video_id", "track_id", "face_id")))
            tracks = tracks.take(self._sort(tracks, ("video_id", "track_id")))
            states += [faces.select(STATES.names), tracks.select(STATES.names)]
            chunks.append([faces.num_rows, tracks.num_rows])
            for name, rows in self._cut(faces, tracks, videos):
                writers[name].write(rows)
            writers["shots"].write(
                shots_table(outputs).sort_by([("video_id", "ascending"), ("shot_index", "ascending")])
            )
            embedded = face_embeddings(outputs)
            found = pc.index_in(faces["face_id"], value_set=embedded["face_id"].combine_chunks())
            writers["embeddings"].write(embedded.take(found.drop_null()))
            for part in meshes_tables(faces, outputs["scores"], 16 * MESH_ROW_GROUP):
                writers["meshes"].write(part)
        tables = {name: writer.close() for name, writer in writers.items()}
        tables["states"] = write_rows(self.store, STATES, states)
        return write_record(self.store, key, tables, {"chunks": chunks})

    def _cut_published(self, own: SegmentOutputs, mined: Recorded) -> Iterator[tuple[str, pa.Table]]:
        """Yield table names and rows of ``CUT``, from the files of other thresholds and the states before them."""
        schemas = {name: stored_schema(name) for name in CUT} | {"states": STATES}
        files = {
            name: StoredRows(self.store, [file.path for file in mined.tables[name].files], schema)
            for name, schema in schemas.items()
        }
        at, videos = dict.fromkeys(schemas, 0), self._videos(own)
        for n_faces, n_tracks in mined.about["chunks"]:
            rows = {}
            for name, n in (("faces", n_faces), ("tracks", n_tracks)):
                state = files["states"].read(at["states"], n, STATES.names)
                found = files[name].read(at[name], n, schemas[name].names)
                rows[name] = set_status(found, state["status"], state["reason"])
                at[name], at["states"] = at[name] + n, at["states"] + n
            yield from self._cut(rows["faces"], rows["tracks"], videos)

    def _cut(self, faces: pa.Table, tracks: pa.Table, videos: pa.Table) -> Iterator[tuple[str, pa.Table]]:
        """Apply the thresholds to the faces and tracks of some videos."""
        faces = apply_to_faces(faces, self.preset)
        if self.where:
            faces = apply_where(faces, videos, self.where)
        yield "faces", faces
        yield "tracks", apply_to_tracks(tracks, faces, self.preset)

    def _videos(self, own: SegmentOutputs) -> pa.Table:
        """Return the rows of ``videos`` that ``where`` may ask for, with the status that the steps gave."""
        if not self.where:
            return TABLES["videos"].empty_table()
        states = own.states()
        ids = states["tracks"]["video_id"].combine_chunks()
        return videos_table(self.sources.filter(pc.is_in(self.sources["video_id"], value_set=ids)), states)

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
        if (found := read_record(self.store, key, self.deep)) is None:
            found = write_record(self.store, key, {"means": write_table(self.store, "embeddings", [rows])})
        return found.tables["means"]
