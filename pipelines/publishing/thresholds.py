"""A preset's thresholds on faces, and the status that tracks and videos get from their faces."""

from __future__ import annotations

from collections import Counter, defaultdict

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mfhq.schema import OK, REJECTED
from mfhq.where import rows_where
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
    reason = np.array(faces["reason"].to_pylist(), dtype=object)
    status = np.array(faces["status"].to_pylist(), dtype=object)
    if not preset.needs_mesh:
        unsure = reason == "mesh_unsure"
        status[unsure], reason[unsure] = OK, ""
    for code, fails in checks:
        rejected = fails & (status == OK)
        status[rejected], reason[rejected] = REJECTED, code
    return set_status(faces, list(status), list(reason))


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
    rejected = pc.and_(pc.invert(meets), pc.equal(faces["status"], OK)).to_pylist()
    columns = zip(rejected, faces["status"].to_pylist(), faces["reason"].to_pylist(), strict=True)
    states = [(REJECTED, NOT_SELECTED) if is_rejected else (status, reason) for is_rejected, status, reason in columns]
    return set_status(faces, [status for status, _ in states], [reason for _, reason in states])


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
    usable, reasons = Counter[str](), defaultdict[str, Counter[str]](Counter)
    columns = (faces[name].to_pylist() for name in ("track_id", "status", "reason"))
    for track, status, reason in zip(*columns, strict=True):
        usable[track] += status == OK
        if status != OK:
            reasons[track][reason] += 1
    status_of, reason_of = [], []
    columns = (tracks[name].to_pylist() for name in ("track_id", "status", "reason", "n_faces"))
    for track, status, reason, detections in zip(*columns, strict=True):
        if status == OK and usable[track] < preset.min_faces_per_track:
            status, reason = REJECTED, most_common_reason(reasons[track], "no_candidate")
        elif status == OK and detections < preset.min_detections:
            status, reason = REJECTED, "too_brief"
        status_of.append(status)
        reason_of.append(reason)
    return set_status(tracks, status_of, reason_of)


def apply_to_videos(videos: pa.Table, tracks: pa.Table) -> pa.Table:
    """Reject the videos in which no track is ok.

    Args:
        videos: ``mfhq.schema.VIDEOS`` rows with the status that the steps gave.
        tracks: ``mfhq.schema.TRACKS`` rows after the thresholds.

    Returns:
        The videos with new status and reason. A rejected video's reason is the most common one of its tracks.
    """
    usable, reasons = set[str](), defaultdict[str, Counter[str]](Counter)
    columns = (tracks[name].to_pylist() for name in ("video_id", "status", "reason"))
    for video, status, reason in zip(*columns, strict=True):
        if status == OK:
            usable.add(video)
        else:
            reasons[video][reason] += 1
    status_of, reason_of = [], []
    columns = (videos[name].to_pylist() for name in ("video_id", "status", "reason"))
    for video, status, reason in zip(*columns, strict=True):
        rejected = status == OK and video not in usable
        status_of.append(REJECTED if rejected else status)
        reason_of.append(most_common_reason(reasons[video], "no_face") if rejected else reason)
    return set_status(videos, status_of, reason_of)


def most_common_reason(reasons: Counter[str], default: str) -> str:
    """Return the most common reason code.

    Args:
        reasons: Reason code to its count; among equally common codes the alphabetically first is returned.
        default: Code to return if ``reasons`` is empty.
    """
    return min(reasons, key=lambda code: (-reasons[code], code)) if reasons else default


def set_status(table: pa.Table, status: list[str], reason: list[str]) -> pa.Table:
    """Replace the columns ``status`` and ``reason`` of a table.

    Args:
        table: N rows.
        status: N values.
        reason: N values.
    """
    for name, values in (("status", status), ("reason", reason)):
        index = table.schema.get_field_index(name)
        table = table.set_column(index, table.schema.field(index), pa.array(values, pa.string()))
    return table
