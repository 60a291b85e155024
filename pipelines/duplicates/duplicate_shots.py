"""Duplicates in a mined corpus: its shots with usable faces that are copies of each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from mfhq.schema import DUPLICATES
from pipelines.duplicates.copy_search import CopySearch, shots_of
from pipelines.duplicates.originals import choose_originals, other_of

if TYPE_CHECKING:
    import duckdb

_COLUMNS = ("video_id", "shots.shot_index", "shots.hash_times_s", "shots.hashes")
_ROWS = 4096
_USABLE = """CREATE TABLE usable AS SELECT video_id, shot_index, max(mean_width_px) AS width_px FROM tracks
WHERE status = 'ok' GROUP BY ALL"""
_NUMBERED = """CREATE TABLE numbered AS
SELECT CAST(row_number() OVER (ORDER BY video_id, shot_index) AS INTEGER) AS shot,
video_id, shot_index, width_px, floor(hash_times_s[-1] - hash_times_s[1]) AS seconds, len(hash_times_s) AS n_frames
FROM shots JOIN usable USING (video_id, shot_index) WHERE len(hash_times_s) > 1"""
_HASHES = """SELECT shot, hash_times_s AS times_a, hashes AS hashes_a FROM shots
JOIN numbered USING (video_id, shot_index)"""
_INFO = """SELECT shot, video_id, shot_index, width_px, seconds FROM numbered WHERE shot IN (SELECT unnest($numbers))"""
_VIDEOS = """WITH copied AS (SELECT c.video_id, c.duplicate_of, s.n_frames, c.distance
    FROM copies c JOIN numbered s USING (video_id, shot_index) WHERE c.rank = 0),
whole AS (SELECT u.video_id, sum(s.n_frames) AS n_frames, count(*) AS n_shots FROM usable u
    LEFT JOIN numbered s USING (video_id, shot_index) WHERE u.video_id IN (SELECT video_id FROM copied) GROUP BY ALL),
best AS (SELECT video_id, duplicate_of, sum(n_frames) AS n, sum(distance * n_frames) / sum(n_frames) AS distance
    FROM copied GROUP BY video_id, duplicate_of
    QUALIFY row_number() OVER (PARTITION BY video_id ORDER BY n DESC, duplicate_of) = 1),
total AS (SELECT video_id, sum(n_frames) AS n_frames, count(*) AS n_shots FROM copied GROUP BY ALL)
SELECT video_id, duplicate_of, CAST(round(best.distance, 2) AS FLOAT) AS duplicate_distance,
total.n_frames >= whole.n_frames / 2 AS is_most, total.n_shots = whole.n_shots AS is_all
FROM best JOIN total USING (video_id) JOIN whole USING (video_id) ORDER BY video_id"""


@dataclass(frozen=True)
class DuplicateShots:
    """Copied shots of a corpus, and the videos that have them."""

    shots: pa.Table
    """``mfhq.schema.DUPLICATES`` rows."""
    videos: pa.Table
    """Columns video_id, duplicate_of, duplicate_distance, is_most (half of the frames or more are copies), is_all (all
    shots with usable faces are copies)."""


def find_duplicates(connection: duckdb.DuckDBPyConnection) -> DuplicateShots:
    """Find the shots with usable faces that are copies of each other, and choose an original for each.

    The longest of some copies is the original (in whole seconds), then the one with the widest face, then that of the
    lowest video id. Shots without hashes, of a former version of the step ``tracks``, are no copies.

    Args:
        connection: A connection with views of the published tables ``tracks`` and ``shots``, a limit on its memory,
            and a folder to spill to.
    """
    connection.execute(_USABLE)
    connection.execute(_NUMBERED)
    search = CopySearch(connection)
    for batch in connection.cursor().sql(_HASHES).to_arrow_reader(_ROWS):
        search.add(batch["shot"].to_pylist(), shots_of(batch, "a"))
    copies = _table(connection, search)
    connection.register("copies", copies)
    return DuplicateShots(copies, connection.sql(_VIDEOS).to_arrow_table())


def _table(connection: duckdb.DuckDBPyConnection, search: CopySearch) -> pa.Table:
    """Return the rows of ``duplicates``."""
    found = list(search.copies())
    numbers = sorted({shot for copy in found for shot in (copy.one, copy.other)})
    info = {row[0]: row[1:] for row in connection.execute(_INFO, {"numbers": numbers}).fetchall()}
    found = [copy for copy in found if info[copy.one][0] != info[copy.other][0]]
    order = {n: (-seconds, -(width or 0), video, shot) for n, (video, shot, width, seconds) in info.items()}
    rows = [
        {
            "video_id": info[duplicate][0],
            "shot_index": info[duplicate][1],
            "rank": rank,
            "duplicate_of": info[other_of(copy, duplicate)][0],
            "original_shot": info[other_of(copy, duplicate)][1],
            "distance": round(copy.match.distance, 2),
            "agreement": round(copy.match.agreement, 3),
            "share": round(copy.match.share, 3),
        }
        for duplicate, copies in choose_originals(found, order).items()
        for rank, copy in enumerate(copies)
    ]
    keys = [("video_id", "ascending"), ("shot_index", "ascending"), ("rank", "ascending")]
    return pa.Table.from_pylist(rows, schema=DUPLICATES).sort_by(keys)


def mark_duplicates(videos: pa.Table, duplicates: DuplicateShots) -> pa.Table:
    """Set the columns ``duplicate_of`` and ``duplicate_distance`` of videos of which half or more is copied.

    Args:
        videos: ``mfhq.schema.VIDEOS`` rows.
        duplicates: The copies.
    """
    most = duplicates.videos.filter(duplicates.videos["is_most"])
    at = pc.index_in(videos["video_id"], value_set=most["video_id"].combine_chunks())
    for name in ("duplicate_of", "duplicate_distance"):
        n = videos.schema.get_field_index(name)
        videos = videos.set_column(n, videos.schema.field(n), most[name].take(at).cast(videos.schema.field(n).type))
    return videos


def is_all_copied(videos: pa.Table, duplicates: DuplicateShots) -> pa.ChunkedArray:
    """Return, for each video, whether all its shots with usable faces are copies.

    Args:
        videos: Rows with ``video_id``.
        duplicates: The copies.
    """
    copied = duplicates.videos.filter(duplicates.videos["is_all"])
    return pc.is_in(videos["video_id"], value_set=copied["video_id"].combine_chunks())
