"""Flat tables of the corpus from the mining steps' nested outputs, before any threshold.

The argument ``outputs`` of each function maps step names (``STEPS``) to the steps' outputs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mfhq.catalog import MESH
from mfhq.schema import EMBEDDINGS, FAILED, OK, REJECTED, SHOTS, TRACKS, VIDEOS, stored_schema
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
    status, reason = _first_problems([lookup_rows(sources, outputs[step], "video_id") for step in STEPS])
    columns = {name: sources[name] for name in ("video_id", "uri", "licence", "consent")}
    columns |= {name: probe[name] for name in ("codec", "width", "height", "fps", "duration_s", "n_frames")}
    columns |= {"n_frames_decoded": decoded["n_frames_decoded"]}
    return conform_to_schema({**columns, "status": status, "reason": reason}, VIDEOS)


def _first_problems(states: Sequence[pa.Table]) -> tuple[pa.ChunkedArray, pa.ChunkedArray]:
    """Return status and reason of the first step that is not ok; if all are ok, the first non-empty reason."""
    status, reason = pa.scalar(OK), pa.scalar("")
    for state in reversed(states):
        unfinished, ok = state["status"].is_null(), pc.equal(state["status"], OK).fill_null(False)
        step_status = pc.if_else(unfinished, FAILED, state["status"])
        step_reason = pc.if_else(unfinished, "not_finished", state["reason"])
        remark = pc.and_(ok, pc.and_(pc.equal(status, OK), pc.not_equal(step_reason, "")))
        reason = pc.if_else(pc.invert(ok), step_reason, pc.if_else(remark, step_reason, reason))
        status = pc.if_else(ok, status, step_status)
    return status, reason


def shots_table(outputs: Mapping[str, pa.Table]) -> pa.Table:
    """Build the table ``shots``."""
    return conform_to_schema(_columns(explode(outputs["tracks"], "shots", ["video_id"])), SHOTS)


def tracks_table(outputs: Mapping[str, pa.Table]) -> pa.Table:
    """Build the table ``tracks``, with the status that the step gave."""
    return conform_to_schema(_columns(explode(outputs["tracks"], "tracks", ["video_id"])), TRACKS)


def faces_table(outputs: Mapping[str, pa.Table]) -> pa.Table:
    """Build the table ``faces``: every candidate with its scores, its agreement and the status that the steps gave.

    The meshes are left out (``meshes_table``).

    Args:
        outputs: The outputs of ``tracks``, ``scores`` (with or without meshes) and ``embeddings``.
    """
    tracks = explode(outputs["tracks"], "tracks", ["video_id"])
    candidates = explode(tracks, "faces", ["video_id"])
    scored = explode(outputs["scores"], "faces", [])
    scores = lookup_rows(candidates, scored.select([n for n in scored.column_names if n != MESH]), "face_id")
    columns = _columns(candidates)
    columns |= {f.name: scores[f.name] for f in SCORES if f.name not in ("face_id", "reason", MESH)}
    found = pc.coalesce(scores["reason"], pa.scalar("not_scored"))
    reason = pc.if_else(pc.equal(candidates["reason"], ""), found, candidates["reason"])
    ok = pc.equal(candidates["status"], OK)
    problem = pc.if_else(pc.equal(reason, "not_scored"), FAILED, pc.if_else(pc.equal(reason, ""), OK, REJECTED))
    columns["agreement"] = _agreement(candidates["face_id"], outputs["embeddings"])
    columns |= {"status": pc.if_else(ok, problem, candidates["status"]), "reason": reason}
    return conform_to_schema(columns, stored_schema("faces"))


def meshes_tables(faces: pa.Table, scores: pa.Table, rows: int) -> Iterator[pa.Table]:
    """Build the table ``meshes``: the mesh of each face, null where there is none.

    Args:
        faces: ``faces_table`` rows, whose order the meshes keep.
        scores: The output of ``scores``.
        rows: Number of rows of each result.

    Yields:
        The rows, some at a time.
    """
    scored = explode(scores.select(["faces"]), "faces", [])
    meshes, places = scored[MESH], pc.index_in(faces["face_id"], value_set=scored["face_id"].combine_chunks())
    for start in range(0, faces.num_rows, rows):
        ids = faces.select(["face_id", "track_id", "video_id"]).slice(start, rows)
        yield ids.append_column(MESH, meshes.take(places.slice(start, rows)))


def face_embeddings(outputs: Mapping[str, pa.Table]) -> pa.Table:
    """Build the table ``embeddings``, with the vectors of the individual faces only."""
    return conform_to_schema(_columns(explode(outputs["embeddings"], "faces", ["model"])), EMBEDDINGS)


def _agreement(face_ids: pa.ChunkedArray, embedded: pa.Table) -> pa.ChunkedArray:
    """Return the similarity of each face's embedding to the mean of its track's other faces; null without others."""
    table = explode(embedded, "faces", ["model"])
    values = pa.array(agreement(table["track_id"], lists_to_vectors(table, dtype=np.float32)), from_pandas=True)
    rows = pc.index_in(face_ids, value_set=table["face_id"].combine_chunks())
    return pa.chunked_array([values]).take(rows)


def _columns(table: pa.Table) -> dict[str, pa.ChunkedArray]:
    return dict(zip(table.column_names, table.columns, strict=True))
