"""A preset's thresholds on faces, and the status that tracks and videos get from their faces."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mfhq.schema import OK, REJECTED
from mfhq.where import rows_where
from pipelines.mining.scores_step import MESH_UNSURE
from pipelines.publishing.publish_presets import Preset


def apply_to_faces(faces: pa.Table, preset: Preset) -> pa.Table:
    """Reject the faces that fail a threshold; the reason is the first threshold that a face fails.

    A face that a step rejected or failed on keeps its reason; but if the preset needs no mesh, a face that was rejected
    because its mesh is unsure counts as ok. A null score passes its threshold.

    Args:
        faces: ``mfhq.schema.FACES`` rows with the status that the steps gave.
        preset: The thresholds.

    Returns:
        The rows with new status and reason.
    """

    def score(name: str, missing: float) -> np.ndarray:
        return faces[name].cast(pa.float64()).fill_null(missing).to_numpy()

    turned = (np.abs(score("yaw_deg", 0)) > preset.max_yaw_deg) | (np.abs(score("pitch_deg", 0)) > preset.max_pitch_deg)
    checks = (
        ("cut_by_border", score("completeness", 1) < preset.min_completeness),
        ("low_score", score("score", 1) < preset.min_score),
        ("too_small", score("x1", 0) - score("x0", 0) < preset.min_width_px),
        ("blurred", score("sharpness", np.inf) < preset.min_sharpness),
        ("badly_exposed", score("exposure", 1) < preset.min_exposure),
        ("turned_away", turned),
        ("occluded", score("occlusion", 0) > preset.max_occlusion),
        ("compressed", score("compression", 0) > preset.max_compression),
        ("disagrees", score("agreement", 1) < preset.min_agreement),
    )
    ok, unsure = (pc.equal(faces[name], value).to_numpy() for name, value in (("status", OK), ("reason", MESH_UNSURE)))
    accepted = unsure & (not preset.needs_mesh)
    codes = np.full(faces.num_rows, -1, np.int8)  # -1, the None below: status and reason stay as they are
    is_open = ok | accepted
    for code, (_, fails) in enumerate(checks):
        codes[fails & is_open & (codes < 0)] = code
    failed = pa.array(np.array([*(name for name, _ in checks), None], object)[codes], pa.string())
    accepted_now = pa.array(accepted & (codes < 0))
    status = pc.if_else(accepted_now, OK, pc.if_else(failed.is_valid(), REJECTED, faces["status"]))
    reason = pc.if_else(accepted_now, "", pc.coalesce(failed, faces["reason"]))
    return set_status(faces, status, reason)


NOT_SELECTED = "not_selected"
"""Reason: the face does not meet the condition of ``publish --where``."""


def apply_where(faces: pa.Table, videos: pa.Table, condition: str) -> pa.Table:
    """Reject as ``not_selected`` the ok faces that do not meet an SQL condition.

    Args:
        faces: ``mfhq.schema.FACES`` rows.
        videos: ``mfhq.schema.VIDEOS`` rows of their videos.
        condition: SQL condition on the columns of both tables; a column of both (status, reason) is the face's.

    Returns:
        The faces with new status and reason.

    Raises:
        CatalogError: DuckDB refuses the condition.
    """
    rows = faces
    video_rows = pc.index_in(faces["video_id"], value_set=videos["video_id"].combine_chunks())
    for name in videos.column_names:
        if name not in faces.column_names:
            rows = rows.append_column(name, videos[name].take(video_rows))
    meets = rows_where(rows, condition, "--where")
    rejected = pc.and_(pc.invert(meets), pc.equal(faces["status"], OK))
    status, reason = (
        pc.if_else(rejected, value, faces[name]) for name, value in (("status", REJECTED), ("reason", NOT_SELECTED))
    )
    return set_status(faces, status, reason)


def apply_to_tracks(tracks: pa.Table, faces: pa.Table, preset: Preset) -> pa.Table:
    """Reject the tracks with too few ok faces or detections.

    Args:
        tracks: ``mfhq.schema.TRACKS`` rows with the status that the step gave.
        faces: ``mfhq.schema.FACES`` rows after the thresholds.
        preset: Least numbers of ok faces and of detections.

    Returns:
        The tracks with new status and reason. A rejected track's reason is the most common one of its faces, or
        ``too_brief`` if it has too few detections.
    """
    usable = faces.filter(pc.equal(faces["status"], OK)).group_by("track_id").aggregate([([], "count_all")])
    n_usable = _value_of(tracks["track_id"], usable, "track_id", "count_all").fill_null(0)
    common = _value_of(tracks["track_id"], most_common_reasons(faces, "track_id"), "track_id", "reason")
    ok = pc.equal(tracks["status"], OK)
    empty = pc.and_(ok, pc.less(n_usable, preset.min_faces_per_track))
    brief = pc.and_(pc.and_not(ok, empty), pc.less(tracks["n_faces"], preset.min_detections))
    reason = pc.if_else(empty, common.fill_null("no_candidate"), pc.if_else(brief, "too_brief", tracks["reason"]))
    return set_status(tracks, pc.if_else(pc.or_(empty, brief), REJECTED, tracks["status"]), reason)


def apply_to_videos(videos: pa.Table, outcomes: pa.Table) -> pa.Table:
    """Reject the ok videos without an ok track; the reason is the most common one of their tracks, or ``no_face``.

    Args:
        videos: ``mfhq.schema.VIDEOS`` rows with the status that the steps gave.
        outcomes: One row per video with tracks: video_id, usable (True if a track is ok), reason (the most common one
            of its other tracks; null for none).
    """
    usable = _value_of(videos["video_id"], outcomes, "video_id", "usable").fill_null(False)
    reason = _value_of(videos["video_id"], outcomes, "video_id", "reason").fill_null("no_face")
    rejected = pc.and_not(pc.equal(videos["status"], OK), usable)
    status = pc.if_else(rejected, REJECTED, videos["status"])
    return set_status(videos, status, pc.if_else(rejected, reason, videos["reason"]))


def outcomes_of_videos(tracks: pa.Table) -> pa.Table:
    """Return the outcomes of the videos of these tracks, as ``apply_to_videos`` takes them.

    Args:
        tracks: ``mfhq.schema.TRACKS`` rows after the thresholds, all tracks of each video.
    """
    usable = pa.table({"video_id": tracks["video_id"], "usable": pc.equal(tracks["status"], OK)})
    found = usable.group_by("video_id").aggregate([("usable", "max")]).rename_columns(["video_id", "usable"])
    common = most_common_reasons(tracks, "video_id")
    return found.append_column("reason", _value_of(found["video_id"], common, "video_id", "reason"))


def most_common_reasons(table: pa.Table, key: str) -> pa.Table:
    """Return the most common reason of the rows of each key that are not ok; of equally common ones the first.

    Args:
        table: Rows with status, reason and the column ``key``.
        key: Name of the column.

    Returns:
        Columns ``key`` and reason; keys whose rows are all ok have no row.
    """
    rejected = table.filter(pc.not_equal(table["status"], OK)).select([key, "reason"])
    counts = rejected.group_by([key, "reason"]).aggregate([([], "count_all")])
    counts = counts.sort_by([(key, "ascending"), ("count_all", "descending"), ("reason", "ascending")])
    keys = counts[key].combine_chunks()
    is_first = np.ones(len(keys), bool)
    is_first[1:] = pc.not_equal(keys.slice(1), keys.slice(0, max(len(keys) - 1, 0))).to_numpy(zero_copy_only=False)
    return counts.filter(pa.array(is_first)).select([key, "reason"])


def _value_of(keys: pa.ChunkedArray, table: pa.Table, key: str, column: str) -> pa.ChunkedArray:
    """Return, for each key, the value of a column in the row of this key; null if there is none."""
    return table[column].take(pc.index_in(keys, value_set=table[key].combine_chunks()))


def set_status(table: pa.Table, status: Any, reason: Any) -> pa.Table:
    """Replace the columns ``status`` and ``reason`` of a table.

    Args:
        table: N rows.
        status: N values, an array or a list.
        reason: N values, likewise.
    """
    for name, values in (("status", status), ("reason", reason)):
        index = table.schema.get_field_index(name)
        column = values if isinstance(values, (pa.Array, pa.ChunkedArray)) else pa.array(values, pa.string())
        table = table.set_column(index, table.schema.field(index), column)
    return table
