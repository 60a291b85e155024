"""Flat tables of the corpus from the mining steps' nested outputs, before any threshold.

The argument ``outputs`` of each function maps step names (``STEPS``) to the steps' outputs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from mfhq.schema import EMBEDDINGS, FACES, FAILED, OK, REJECTED, SHOTS, TRACKS, VIDEOS
from pipelines.engine.nested_tables import conform_to_schema, explode, lookup_rows
from pipelines.identity.means import agreement
from pipelines.identity.vector_lists import lists_to_vectors
from pipelines.mining.schemas import SCORES

STEPS = ("probe", "tracks", "scores", "embeddings")
"""The mining steps, in the order in which a video goes through them."""


def videos_table(sources: pa.Table, outputs: Mapping[str, pa.Table]) -> pa.Table:
    """Build the table ``videos``: every recorded source, with the status and reason of the first step that is not ok.

    Videos whose tracks are all rejected are rejected later (``thresholds.apply_to_videos``).

    Args:
        sources: ``mining.schemas.SOURCES`` rows.
        outputs: Step name to the step's output.
    """
    probe, decoded = (
        lookup_rows(sources, outputs["probe"], "video_id"),
        lookup_rows(sources, outputs["tracks"], "video_id"),
    )
    states = {
        step: lookup_rows(sources, outputs[step].select(["video_id", "status", "reason"]), "video_id").to_pylist()
        for step in STEPS
    }
    status, reason = zip(*map(_first_problem, *states.values()), strict=True) if sources.num_rows else ((), ())
    columns = {name: sources[name] for name in ("video_id", "uri", "licence", "consent")}
    columns |= {name: probe[name] for name in ("codec", "width", "height", "fps", "duration_s", "n_frames")}
    columns |= {"n_frames_decoded": decoded["n_frames_decoded"]}
    return conform_to_schema(
        {**columns, "status": pa.array(status, pa.string()), "reason": pa.array(reason, pa.string())}, VIDEOS
    )


def _first_problem(*states: Mapping[str, str | None]) -> tuple[str, str]:
    """Return status and reason of the first step that is not ok; if all are ok, the first non-empty reason."""
    remark = ""
    for state in states:
        if state["status"] is None:
            return FAILED, "not_finished"
        if state["status"] != OK:
            return str(state["status"]), str(state["reason"])
        remark = remark or str(state["reason"])
    return OK, remark


def shots_table(outputs: Mapping[str, pa.Table]) -> pa.Table:
    """Build the table ``shots``."""
    return conform_to_schema(_columns(explode(outputs["tracks"], "shots", ["video_id"])), SHOTS)


def tracks_table(outputs: Mapping[str, pa.Table]) -> pa.Table:
    """Build the table ``tracks``, with the status that the step gave."""
    return conform_to_schema(_columns(explode(outputs["tracks"], "tracks", ["video_id"])), TRACKS)


def faces_table(outputs: Mapping[str, pa.Table]) -> pa.Table:
    """Build the table ``faces``: every candidate with its scores, its agreement and the status that the steps gave.

    Args:
        outputs: The outputs of ``tracks``, ``scores`` and ``embeddings``.
    """
    tracks = explode(outputs["tracks"], "tracks", ["video_id"])
    candidates = explode(tracks, "faces", ["video_id"])
    scores = lookup_rows(candidates, explode(outputs["scores"], "faces", []), "face_id")
    columns = _columns(candidates) | {f.name: scores[f.name] for f in SCORES if f.name not in ("face_id", "reason")}
    reasons = zip(candidates["reason"].to_pylist(), scores["reason"].to_pylist(), strict=True)
    reason = [first or ("not_scored" if second is None else second) for first, second in reasons]
    status = [
        FAILED if state == OK and code == "not_scored" else REJECTED if state == OK and code else state
        for state, code in zip(candidates["status"].to_pylist(), reason, strict=True)
    ]
    columns["agreement"] = pa.array(_agreement(candidates["face_id"].to_pylist(), outputs["embeddings"]), pa.float32())
    return conform_to_schema(
        {**columns, "status": pa.array(status, pa.string()), "reason": pa.array(reason, pa.string())}, FACES
    )


def face_embeddings(outputs: Mapping[str, pa.Table]) -> pa.Table:
    """Build the table ``embeddings``, with the vectors of the individual faces only."""
    return conform_to_schema(_columns(explode(outputs["embeddings"], "faces", ["model"])), EMBEDDINGS)


def _agreement(face_ids: Sequence[str], embedded: pa.Table) -> list[float | None]:
    """Return the similarity of each face's embedding to the mean of its track's other faces; None without others."""
    table = explode(embedded, "faces", ["model"])
    tracks = table["track_id"].to_pylist()
    values, n_faces = agreement(tracks, lists_to_vectors(table, dtype=np.float32)), Counter(tracks)
    rows = zip(table["face_id"].to_pylist(), tracks, values.tolist(), strict=True)
    agreement_of = {face: value for face, track, value in rows if n_faces[track] > 1}
    return [agreement_of.get(face) for face in face_ids]


def _columns(table: pa.Table) -> dict[str, pa.ChunkedArray]:
    return dict(zip(table.column_names, table.columns, strict=True))
