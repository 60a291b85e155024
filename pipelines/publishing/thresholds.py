"""A preset's thresholds on faces, and what they make of tracks and videos."""

from __future__ import annotations

from collections import Counter, defaultdict

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mfhq.schema import OK, REJECTED
from mfhq.where import rows_where
from pipelines.publishing.publish_presets import Preset


def apply_to_faces(faces: pa.Table, preset: Preset) -> pa.Table:
    """``faces`` with status and reason after the thresholds: the first that a face does not clear.

    A face that a step rejected or failed keeps its reason. A score that is null clears its threshold, but for a
    missing mesh where the preset needs one.
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
        spared = reason == "mesh_unsure"
        status[spared], reason[spared] = OK, ""
    for code, hit in checks:
        hit = hit & (status == OK)
        status[hit], reason[hit] = REJECTED, code
    return with_status(faces, list(status), list(reason))


NOT_SELECTED = "not_selected"
"""The condition of ``publish --where`` leaves the face out."""


def apply_where(faces: pa.Table, videos: pa.Table, condition: str) -> pa.Table:
    """``faces`` with those rejected as ``not_selected`` that are ok and do not meet an SQL condition.

    The condition is on the columns of ``faces`` and on those of their ``videos`` (status and reason are the face's).

    Raises:
        CatalogError: DuckDB refuses the condition.
    """
    rows = faces
    of = pc.index_in(faces["video_id"], value_set=videos["video_id"].combine_chunks())
    for name in videos.column_names:
        if name not in faces.column_names:
            rows = rows.append_column(name, videos[name].take(of))
    out = pc.and_(pc.invert(rows_where(rows, condition, "--where")), pc.equal(faces["status"], OK)).to_pylist()
    columns = zip(out, faces["status"].to_pylist(), faces["reason"].to_pylist(), strict=True)
    states = [(REJECTED, NOT_SELECTED) if is_out else (status, reason) for is_out, status, reason in columns]
    return with_status(faces, [status for status, _ in states], [reason for _, reason in states])


def apply_to_tracks(tracks: pa.Table, faces: pa.Table, preset: Preset) -> pa.Table:
    """``tracks`` after the thresholds: rejected as ``too_brief``, or like its faces if too few are ok."""
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
            status, reason = REJECTED, commonest(reasons[track], "no_candidate")
        elif status == OK and detections < preset.min_detections:
            status, reason = REJECTED, "too_brief"
        status_of.append(status)
        reason_of.append(reason)
    return with_status(tracks, status_of, reason_of)


def apply_to_videos(videos: pa.Table, tracks: pa.Table) -> pa.Table:
    """``videos`` after the thresholds: rejected, with its tracks' commonest reason, when no track is ok."""
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
        reason_of.append(commonest(reasons[video], "no_face") if rejected else reason)
    return with_status(videos, status_of, reason_of)


def commonest(reasons: Counter[str], none: str) -> str:
    """The reason that occurs most; the first by name among equals; ``none`` where there is none."""
    return min(reasons, key=lambda code: (-reasons[code], code)) if reasons else none


def with_status(table: pa.Table, status: list[str], reason: list[str]) -> pa.Table:
    """The table with other status and reason columns."""
    for name, values in (("status", status), ("reason", reason)):
        index = table.schema.get_field_index(name)
        table = table.set_column(index, table.schema.field(index), pa.array(values, pa.string()))
    return table
