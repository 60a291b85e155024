"""The table ``videos`` of a snapshot, made shard by shard from the recorded sources and the steps' outcomes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mfhq.ids import digest, shard_of
from mfhq.parquet import StoredRows
from mfhq.schema import OK, REJECTED, TABLES
from mfhq.store import Store
from mfhq.takedowns import DenyList
from pipelines.duplicates.duplicate_shots import DuplicateShots, is_all_copied, mark_duplicates
from pipelines.engine.sources import recorded_sources
from pipelines.mining.digests import drop_superseded_failures
from pipelines.mining.schemas import SOURCES
from pipelines.publishing.publish_presets import Preset
from pipelines.publishing.reasons import DUPLICATE, TAKEN_DOWN
from pipelines.publishing.segment_records import STATES, read_record, write_record, write_rows
from pipelines.publishing.step_outputs import STATE_COLUMNS, StepOutputs
from pipelines.publishing.table_digest import sum_rows
from pipelines.publishing.table_files import ROW_GROUP, TableFiles, TableWriter
from pipelines.publishing.thresholds import apply_to_videos, outcomes_of_videos, set_status
from pipelines.publishing.unnest import STEPS, videos_table

_VERSION = 2
"""Version of the table; raised when its content changes."""


def published_sources(store: Store, denied: DenyList) -> pa.Table:
    """Read the newest recorded row of each source that no take-down names, sorted by ``video_id``.

    Args:
        store: The corpus.
        denied: The take-downs.
    """
    recorded = drop_superseded_failures(recorded_sources(store, SOURCES))
    numbered = recorded.append_column("_row", pa.array(np.arange(recorded.num_rows)))
    first = numbered.group_by("video_id").aggregate([("_row", "min")]).sort_by("video_id")
    return denied.prune(recorded.take(first["_row_min"]).combine_chunks())


def write_videos(
    outputs: StepOutputs,
    sources: pa.Table,
    tracks: TableFiles,
    duplicates: DuplicateShots,
    preset: Preset,
    deep: bool = False,
) -> TableFiles:
    """Write the table ``videos``.

    If sources, steps' outputs and take-downs are those of an earlier call, they are not read again: the rows come from
    the file of that call, and the states that the steps gave from a file beside its record.

    Args:
        outputs: The steps' outputs.
        sources: ``published_sources``.
        tracks: Files of the table ``tracks``.
        duplicates: Shots that are copies.
        preset: Says whether duplicates count.
        deep: Compute the sha256 of large files before they are used again.
    """
    store, outcomes = outputs.store, _outcomes(outputs.store, tracks)
    parts = {step: [[path, m.sha256] for path, m in markers.items()] for step, markers in outputs.markers.items()}
    denied = sorted(takedown.takedown_id for takedown in outputs.denied.takedowns)
    key = digest([_VERSION, "videos", parts, sum_rows(sources).digest(sources.schema), denied])
    known = read_record(store, key, deep)
    writer, states = TableWriter(store, "videos"), list[pa.Table]()
    for rows in _videos_again(store, known.tables) if known else _videos_by_shard(outputs, sources):
        states.append(rows.select(STATES.names))
        own = outcomes.filter(pc.is_in(outcomes["video_id"], value_set=rows["video_id"].combine_chunks()))
        marked = reject_duplicates(apply_to_videos(mark_duplicates(rows, duplicates), own), duplicates, preset)
        writer.write(mark_taken_down(marked, outputs.denied))
    files = writer.close()
    if known is None:
        write_record(store, key, {"videos": files, "states": write_rows(store, STATES, states)})
    return files


def _videos_again(store: Store, known: Mapping[str, TableFiles]) -> Iterator[pa.Table]:
    """Yield the videos of an earlier call, with the states that the steps gave."""
    videos, states = (
        StoredRows(store, [file.path for file in known[name].files], schema)
        for name, schema in (("videos", TABLES["videos"]), ("states", STATES))
    )
    for start in range(0, known["videos"].sum.rows, ROW_GROUP):
        rows, state = (
            stored.read(start, ROW_GROUP, names)
            for stored, names in ((videos, TABLES["videos"].names), (states, STATES.names))
        )
        yield set_status(rows, state["status"], state["reason"])


def _videos_by_shard(outputs: StepOutputs, sources: pa.Table) -> Iterator[pa.Table]:
    shard = np.fromiter(map(shard_of, sources["video_id"].to_pylist()), np.int64, sources.num_rows)
    with ThreadPoolExecutor(2) as pool:
        shards = sorted(set(shard.tolist()))
        yield from pool.map(lambda n: _videos_of_shard(outputs, n, sources.filter(pa.array(shard == n))), shards)


def _videos_of_shard(outputs: StepOutputs, shard: int, sources: pa.Table) -> pa.Table:
    ids = sources["video_id"].to_pylist()
    states = {
        step: outputs.newest_rows(step, outputs.newest_parts(step, shard), ids, STATE_COLUMNS[step]) for step in STEPS
    }
    return videos_table(sources, states)


def reject_duplicates(videos: pa.Table, duplicates: DuplicateShots, preset: Preset) -> pa.Table:
    """Reject, as ``duplicate``, the ok videos whose usable shots are all copies, unless the preset counts duplicates.

    Args:
        videos: ``mfhq.schema.VIDEOS`` rows.
        duplicates: The copies.
        preset: Says whether duplicates count.
    """
    if preset.count_duplicates:
        return videos
    mask = pc.and_(pc.equal(videos["status"], OK), is_all_copied(videos, duplicates))
    status, reason = (
        pc.if_else(mask, value, videos[name]) for name, value in (("status", REJECTED), ("reason", DUPLICATE))
    )
    return set_status(videos, status, reason)


def mark_taken_down(videos: pa.Table, denied: DenyList) -> pa.Table:
    """Reject, as ``taken_down``, the unfinished videos whose mining a take-down stopped.

    Args:
        videos: ``mfhq.schema.VIDEOS`` rows.
        denied: The take-downs.
    """
    if not denied.frozen:
        return videos
    unfinished = pc.equal(videos["reason"], "not_finished").to_pylist()
    stopped = [
        is_unfinished and denied.blocks_mining(video)
        for is_unfinished, video in zip(unfinished, videos["video_id"].to_pylist(), strict=True)
    ]
    mask = pa.array(stopped, pa.bool_())
    status, reason = (
        pc.if_else(mask, value, videos[name]) for name, value in (("status", REJECTED), ("reason", TAKEN_DOWN))
    )
    return set_status(videos, status, reason)


def _outcomes(store: Store, tracks: TableFiles) -> pa.Table:
    """Return the outcomes of the videos with tracks (``thresholds.outcomes_of_videos``)."""
    found: list[pa.Table] = [outcomes_of_videos(TABLES["tracks"].empty_table())]
    for file in tracks.files:  # all tracks of a video stand in one file, since a segment holds its videos as a whole
        rows = StoredRows(store, [file.path], TABLES["tracks"]).read(0, file.rows, ["video_id", "status", "reason"])
        found.append(outcomes_of_videos(rows))
    return pa.concat_tables(found).combine_chunks()
