"""From the mining steps' nested outputs to the flat tables of the corpus, before any threshold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from mfhq.schema import EMBEDDINGS, FACES, FAILED, OK, REJECTED, SHOTS, TRACKS, VIDEOS
from pipelines.identity.means import agreement
from pipelines.mining.schemas import SCORES

_NUMBERS = 1 << 30

STEPS = ("probe", "tracks", "scores", "embeddings")
"""The mining steps, in the order in which a video goes through them."""


def explode(table: pa.Table, column: str, keep: Sequence[str]) -> pa.Table:
    """One row for each struct in a list column: its fields as columns, beside the parent's ``keep`` columns."""
    lists = table[column].combine_chunks()
    lists = pa.concat_arrays(lists.chunks) if isinstance(lists, pa.ChunkedArray) else lists
    parents, structs = pc.list_parent_indices(lists), lists.flatten()
    names = [f.name for f in structs.type]
    return pa.table(
        {**{name: table[name].take(parents) for name in keep}, **dict(zip(names, structs.flatten(), strict=True))}
    )


def match(left: pa.Table, right: pa.Table, key: str) -> pa.Table:
    """For each row of ``left`` the row of ``right`` with the same key; all null where there is none."""
    return right.take(pc.index_in(left[key], value_set=right[key].combine_chunks()))


def fit(columns: Mapping[str, pa.Array | pa.ChunkedArray], schema: pa.Schema) -> pa.Table:
    """A table of exactly the schema's columns, sorted by its first key; a column that is not given is null."""
    n = len(next(iter(columns.values())))
    arrays = [columns[f.name].cast(f.type) if f.name in columns else pa.nulls(n, f.type) for f in schema]
    return pa.table(arrays, schema=schema)


def videos_table(sources: pa.Table, outputs: Mapping[str, pa.Table]) -> pa.Table:
    """``videos``: every source on record, with the first thing that went wrong on its way through the steps.

    What the thresholds make of a video whose tracks are all rejected is decided later (``thresholds``).
    """
    probe, decoded = match(sources, outputs["probe"], "video_id"), match(sources, outputs["tracks"], "video_id")
    states = {
        step: match(sources, outputs[step].select(["video_id", "status", "reason"]), "video_id").to_pylist()
        for step in STEPS
    }
    status, reason = zip(*map(_first_trouble, *states.values()), strict=True) if sources.num_rows else ((), ())
    columns = {name: sources[name] for name in ("video_id", "uri", "licence", "consent")}
    columns |= {name: probe[name] for name in ("codec", "width", "height", "fps", "duration_s", "n_frames")}
    columns |= {"n_frames_decoded": decoded["n_frames_decoded"]}
    return fit({**columns, "status": pa.array(status, pa.string()), "reason": pa.array(reason, pa.string())}, VIDEOS)


def _first_trouble(*states: Mapping[str, str | None]) -> tuple[str, str]:
    """Status and reason of a video: those of the first step that did not end well, or an ok step's remark."""
    remark = ""
    for state in states:
        if state["status"] is None:
            return FAILED, "not_finished"
        if state["status"] != OK:
            return str(state["status"]), str(state["reason"])
        remark = remark or str(state["reason"])
    return OK, remark


def shots_table(outputs: Mapping[str, pa.Table]) -> pa.Table:
    """``shots``."""
    return fit(_columns(explode(outputs["tracks"], "shots", ["video_id"])), SHOTS)


def tracks_table(outputs: Mapping[str, pa.Table]) -> pa.Table:
    """``tracks``, with the status that the step gave."""
    return fit(_columns(explode(outputs["tracks"], "tracks", ["video_id"])), TRACKS)


def faces_table(outputs: Mapping[str, pa.Table]) -> pa.Table:
    """``faces``: every candidate with its scores and its agreement, with the status that the steps gave."""
    tracks = explode(outputs["tracks"], "tracks", ["video_id"])
    candidates = explode(tracks, "faces", ["video_id"])
    scores = match(candidates, explode(outputs["scores"], "faces", []), "face_id")
    columns = _columns(candidates) | {f.name: scores[f.name] for f in SCORES if f.name not in ("face_id", "reason")}
    own, said = candidates["reason"].to_pylist(), scores["reason"].to_pylist()
    reason = [first or ("not_scored" if second is None else second) for first, second in zip(own, said, strict=True)]
    status = [
        FAILED if was == OK and why == "not_scored" else REJECTED if was == OK and why else was
        for was, why in zip(candidates["status"].to_pylist(), reason, strict=True)
    ]
    columns["agreement"] = pa.array(_agreement(candidates["face_id"].to_pylist(), outputs["embeddings"]), pa.float32())
    return fit({**columns, "status": pa.array(status, pa.string()), "reason": pa.array(reason, pa.string())}, FACES)


def face_embeddings(outputs: Mapping[str, pa.Table]) -> pa.Table:
    """``embeddings`` of the single faces."""
    return fit(_columns(explode(outputs["embeddings"], "faces", ["model"])), EMBEDDINGS)


def vectors_of(embeddings: pa.Table, column: str = "vector", dtype: npt.DTypeLike = np.float64) -> np.ndarray:
    """(N, D) of a table's vectors, which are all of one width; (0, 0) for none."""
    if not embeddings.num_rows:
        return np.zeros((0, 0), dtype)
    flat = np.concatenate([part.flatten().to_numpy(zero_copy_only=False) for part in embeddings[column].chunks])
    if len(flat) % embeddings.num_rows:
        raise ValueError(
            f"{embeddings.num_rows} embeddings are not of one width ({len(flat)} values); mine with one model"
        )
    return flat.reshape(embeddings.num_rows, -1).astype(dtype, copy=False)


def as_lists(vectors: npt.NDArray[np.float32]) -> pa.ChunkedArray:
    """The column of lists of vectors (N, D): in pieces, as an Arrow list array holds 2³¹ numbers at most."""
    rows, width = max(_NUMBERS // max(vectors.shape[1], 1), 1), vectors.shape[1]
    parts = []
    for at in range(0, len(vectors), rows):
        part = np.ascontiguousarray(vectors[at : at + rows], np.float32)
        offsets = pa.array(np.arange(len(part) + 1, dtype=np.int32) * width)
        parts.append(pa.ListArray.from_arrays(offsets, pa.array(part.ravel())))
    return pa.chunked_array(parts, pa.list_(pa.float32()))


def _agreement(face_ids: Sequence[str], embedded: pa.Table) -> list[float | None]:
    """For each face: similarity of its embedding to the mean of the others of its track; null for one alone."""
    table = explode(embedded, "faces", ["model"])
    tracks = table["track_id"].to_pylist()
    values, count = agreement(tracks, vectors_of(table, dtype=np.float32)), Counter(tracks)
    rows = zip(table["face_id"].to_pylist(), tracks, values.tolist(), strict=True)
    known = {face: value for face, track, value in rows if count[track] > 1}
    return [known.get(face) for face in face_ids]


def _columns(table: pa.Table) -> dict[str, pa.ChunkedArray]:
    return dict(zip(table.column_names, table.columns, strict=True))
