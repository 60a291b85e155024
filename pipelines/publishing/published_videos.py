"""The table ``videos`` of a snapshot, made shard by shard from the recorded sources and the steps' outcomes."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mfhq.ids import shard_of
from mfhq.parquet import StoredRows
from mfhq.schema import REJECTED, TABLES
from mfhq.store import Store
from mfhq.takedowns import DenyList
from pipelines.engine.sources import recorded_sources
from pipelines.mining.digests import drop_superseded_failures
from pipelines.mining.schemas import SOURCES
from pipelines.publishing.reasons import TAKEN_DOWN
from pipelines.publishing.step_outputs import StepOutputs
from pipelines.publishing.table_files import TableFiles
from pipelines.publishing.thresholds import apply_to_videos, outcomes_of_videos, set_status
from pipelines.publishing.unnest import STEPS, videos_table

_COLUMNS = {
    "probe": ("video_id", "status", "reason", "codec", "width", "height", "fps", "duration_s", "n_frames"),
    "tracks": ("video_id", "status", "reason", "n_frames_decoded"),
}
_STATE = ("video_id", "status", "reason")


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


def published_videos(outputs: StepOutputs, sources: pa.Table, tracks: TableFiles) -> Iterator[pa.Table]:
    """Yield the rows of ``videos``, shard by shard.

    Args:
        outputs: The steps' outputs.
        sources: ``published_sources``.
        tracks: Files of the table ``tracks``.
    """
    outcomes = _outcomes(outputs.store, tracks)
    shard = np.fromiter(map(shard_of, sources["video_id"].to_pylist()), np.int64, sources.num_rows)
    with ThreadPoolExecutor(2) as pool:
        shards = sorted(set(shard.tolist()))
        yield from pool.map(
            lambda n: _videos_of_shard(outputs, n, sources.filter(pa.array(shard == n)), outcomes), shards
        )


def _videos_of_shard(outputs: StepOutputs, shard: int, sources: pa.Table, outcomes: pa.Table) -> pa.Table:
    ids = sources["video_id"].to_pylist()
    states = {
        step: outputs.newest_rows(step, outputs.newest_parts(step, shard), ids, _COLUMNS.get(step, _STATE))
        for step in STEPS
    }
    own = outcomes.filter(pc.is_in(outcomes["video_id"], value_set=sources["video_id"].combine_chunks()))
    return mark_taken_down(apply_to_videos(videos_table(sources, states), own), outputs.denied)


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
