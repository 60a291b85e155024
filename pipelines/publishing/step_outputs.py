"""The mining steps' outputs, read a few parts at a time: the newest row of each video."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mfhq.integrity import check_file
from mfhq.parquet import StoredParquet, prune_schema
from mfhq.store import Store
from mfhq.takedowns import DenyList
from pipelines.engine.commits import (
    READER_THREADS,
    Marker,
    StepLocation,
    locate_step,
    read_family_markers,
    read_part,
    remake_part,
)
from pipelines.publishing.segments import VideoSegment
from pipelines.publishing.unnest import STEPS

_STATE = ("video_id", "status", "reason")
STATE_COLUMNS = {
    "probe": (*_STATE, "codec", "width", "height", "fps", "duration_s", "n_frames"),
    "tracks": (*_STATE, "n_frames_decoded"),
    "scores": _STATE,
    "embeddings": _STATE,
}
"""Columns of each step that ``unnest.videos_table`` takes."""


@dataclass(frozen=True)
class StepOutputs:
    """Outputs of the steps in ``STEPS``, found by their markers."""

    store: Store
    fingerprints: Mapping[str, str]
    denied: DenyList

    @cached_property
    def locations(self) -> dict[str, StepLocation]:
        """Location of each step's output."""
        return {step: locate_step(self.store, step, self.fingerprints[step]) for step in STEPS}

    @cached_property
    def markers(self) -> dict[str, dict[str, Marker]]:
        """Markers of each step's parts by path, in the order of shard and part."""
        return {step: read_family_markers(self.store, self.locations[step]) for step in STEPS}

    def shards(self) -> list[int]:
        """Return the numbers of the shards that have a part."""
        return sorted({marker.shard for markers in self.markers.values() for marker in markers.values()})

    def newest_parts(self, step: str, shard: int) -> dict[str, str]:
        """Return video → path of the marker of the part with its newest row, for the videos of a shard."""
        paths = [path for path, marker in self.markers[step].items() if marker.shard == shard]
        with ThreadPoolExecutor(READER_THREADS) as pool:
            ids = list(pool.map(lambda path: self.read(step, path, ["video_id"])["video_id"].to_pylist(), paths))
        return {video: path for path, videos in zip(paths, ids, strict=True) for video in videos}

    def read(self, step: str, path: str, columns: Sequence[str] | None = None) -> pa.Table:
        """Read a part: all of it, verified against its marker, or some columns.

        Args:
            step: Name of the step.
            path: Path of the part's marker.
            columns: Columns to read; None for all.
        """
        location, marker = self.locations[step], self.markers[step][path]
        if columns is None or not marker.data.startswith(location.prefix):  # of a former definition of the step
            return read_part(self.store, location, marker, columns or [f.name for f in location.schema])
        check_file(self.store, marker.data, marker.n_bytes, marker.sha256, remake_part(location, marker))
        stored = StoredParquet(self.store, marker.data, location.stored_schema)
        parts = [stored.read(group, columns) for group in range(stored.row_groups)]
        return pa.concat_tables([prune_schema(location.stored_schema, columns).empty_table(), *parts])

    def newest_rows(
        self, step: str, newest: Mapping[str, str], videos: Collection[str], columns: Sequence[str] | None = None
    ) -> pa.Table:
        """Read the newest row of each of these videos, without withdrawn rows.

        Args:
            step: Name of the step.
            newest: Result of ``newest_parts`` for the shards of these videos.
            videos: Ids of the videos; those without a row are left out.
            columns: Columns to read, among them ``video_id``; None for all.
        """
        of_part: dict[str, list[str]] = {}
        for video in videos:
            if video in newest:
                of_part.setdefault(newest[video], []).append(video)
        location = self.locations[step]
        names = list(columns) if columns is not None else [f.name for f in location.schema]
        tables = [prune_schema(location.stored_schema, names).empty_table()]
        with ThreadPoolExecutor(4) as pool:
            found = pool.map(lambda item: self._rows_of(step, item[0], item[1], columns), sorted(of_part.items()))
            tables += [self.denied.prune(table) for table in found]
        return pa.concat_tables(tables)

    def _rows_of(self, step: str, path: str, videos: list[str], columns: Sequence[str] | None) -> pa.Table:
        """Read the last row of each of these videos in a part."""
        table = self.read(step, path, columns)
        last = {video: row for row, video in enumerate(table["video_id"].to_pylist())}
        rows = np.sort(np.fromiter((last[video] for video in videos), np.int64, len(videos)))
        return table if len(rows) == table.num_rows else table.take(pa.array(rows))


@dataclass(frozen=True)
class SegmentOutputs:
    """Outputs of the videos of a segment: those whose newest row of ``tracks`` is in one of its parts."""

    outputs: StepOutputs
    segment: VideoSegment

    def parts_read(self) -> dict[str, list[list[str]]]:
        """Return, for each step, [path, sha256] of every part that holds a newest row of these videos."""
        read: dict[str, set[str]] = {step: set() for step in STEPS}
        for _, newest, videos in self._shards():
            for step in STEPS:
                read[step] |= {newest[step][video] for video in videos if video in newest[step]}
        return {
            step: [[path, self.outputs.markers[step][path].sha256] for path in sorted(read[step])] for step in STEPS
        }

    def shards(self) -> list[int]:
        """Return the numbers of the shards that have a part of the segment."""
        markers = self.outputs.markers["tracks"]
        return sorted({markers[path].shard for path in self.segment.parts})

    def parts_of_shards(self) -> dict[str, list[list[str]]]:
        """Return, for each step, [path, sha256] of every part of the segment's shards."""
        own = set(self.shards())
        return {
            step: [[path, marker.sha256] for path, marker in markers.items() if marker.shard in own]
            for step, markers in self.outputs.markers.items()
        }

    def states(self) -> dict[str, pa.Table]:
        """Read, for each step, the columns of the videos' rows that ``unnest.videos_table`` takes."""
        found: dict[str, list[pa.Table]] = {step: [] for step in STEPS}
        for _, newest, videos in self._shards():
            for step in STEPS:
                rows = self.outputs.newest_rows(step, newest[step], videos, STATE_COLUMNS[step])
                found[step].append(rows)
        return {step: pa.concat_tables(tables) for step, tables in found.items()}

    def chunks(self, most_faces: int) -> Iterator[dict[str, pa.Table]]:
        """Yield the steps' outputs, for so many videos at a time that they have about ``most_faces`` faces.

        Args:
            most_faces: Number of faces at which a chunk ends; the next part of ``tracks`` begins another one.
        """
        waiting: dict[str, list[pa.Table]] = {step: [] for step in STEPS}
        n_faces = 0
        for parts, newest, videos in self._shards():
            of_part: dict[str, list[str]] = {path: [] for path in parts}
            for video in videos:
                of_part[newest["tracks"][video]].append(video)
            pending: list[str] = []
            for path in parts:
                rows = self.outputs.newest_rows("tracks", newest["tracks"], of_part[path])
                waiting["tracks"].append(rows)
                pending += of_part[path]
                n_faces += _count_faces(rows)
                if n_faces >= most_faces:
                    self._add(waiting, newest, pending)
                    yield {step: pa.concat_tables(tables) for step, tables in waiting.items()}
                    waiting, n_faces, pending = {step: [] for step in STEPS}, 0, []
            self._add(waiting, newest, pending)
        if waiting["tracks"]:
            yield {step: pa.concat_tables(tables) for step, tables in waiting.items()}

    def _add(
        self, waiting: dict[str, list[pa.Table]], newest: Mapping[str, Mapping[str, str]], videos: list[str]
    ) -> None:
        for step in STEPS:
            if step != "tracks":
                waiting[step].append(self.outputs.newest_rows(step, newest[step], videos))

    def _shards(self) -> Iterator[tuple[list[str], dict[str, dict[str, str]], list[str]]]:
        """Yield (parts of ``tracks``, the newest parts by step and video, videos) of each shard of the segment."""
        own = set(self.segment.parts)
        markers = self.outputs.markers["tracks"]
        for shard in self.shards():
            newest = {step: self.outputs.newest_parts(step, shard) for step in STEPS}
            videos = [video for video, path in newest["tracks"].items() if path in own]
            yield [path for path in self.segment.parts if markers[path].shard == shard], newest, videos


def _count_faces(tracked: pa.Table) -> int:
    tracks = pc.list_flatten(tracked["tracks"])
    return int(pc.sum(pc.list_value_length(pc.struct_field(tracks, "faces"))).as_py() or 0)
