"""Gathering of tracks: from the mining steps' outputs to one embedding per track, the rows that are clustered."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from mfhq.schema import EMBEDDINGS, OK
from pipelines.engine.nested_tables import explode, lookup_rows
from pipelines.identity.checks import EmbeddingError, check_vectors
from pipelines.identity.config import ClusterConfig
from pipelines.identity.constraints import Integers, TrackSpans, Vectors, cooccurring_pairs
from pipelines.identity.means import track_means
from pipelines.identity.vector_lists import lists_to_vectors, vectors_to_lists

Strings = npt.NDArray[np.object_]

COLUMNS = {
    "tracks": (
        "video_id",
        "status",
        *(f"tracks.{name}" for name in ("track_id", "start_frame", "end_frame", "n_faces")),
        *(
            f"tracks.faces.{name}"
            for name in ("face_id", "track_id", "frame_index", "x0", "x1", "score", "sharpness", "status")
        ),
    ),
    "scores": (
        "video_id",
        "status",
        *(f"faces.{name}" for name in ("face_id", "reason", "yaw_deg", "pitch_deg", "roll_deg")),
    ),
    "embeddings": ("video_id", "status", "model", "faces"),
}
"""Columns of the mining steps' outputs that clustering reads; not the meshes, which make up most of the bytes."""


@dataclass(frozen=True)
class Tracks:
    """Tracks that are good enough to be clustered, in the order of their ids."""

    track_id: Strings
    """(N,) ids, ascending."""
    video_id: Strings
    """(N,) video of each track."""
    start: Integers
    """(N,) first frame."""
    end: Integers
    """(N,) one past the last frame."""
    vectors: Vectors
    """(N, D) unit vectors: the mean of the best faces. Biometric data."""
    poses: npt.NDArray[np.object_]
    """(N,) poses of the tracks that are visible together with others (``TrackSpans.poses``); None for the rest."""
    model: str
    """Name of the embedding model; empty if there are no embeddings."""

    def __len__(self) -> int:
        return len(self.track_id)

    @property
    def spans(self) -> TrackSpans:
        """Frame ranges of the tracks."""
        video = np.unique(self.video_id.astype(str), return_inverse=True)[1].astype(np.int64)
        return TrackSpans(video, self.start, self.end, self.poses)

    def embeddings(self) -> pa.Table:
        """Return the vectors as rows of ``mfhq.schema.EMBEDDINGS`` (face_id is empty)."""
        n = len(self)
        columns = {
            "track_id": pa.array(self.track_id, pa.string()),
            "face_id": pa.array([""] * n, pa.string()),
            "model": pa.array([self.model] * n, pa.string()),
            "vector": vectors_to_lists(self.vectors),
        }
        return pa.table(columns, schema=EMBEDDINGS)


def gather_tracks(tracked: pa.Table, scored: pa.Table, embedded: pa.Table, config: ClusterConfig) -> Tracks:
    """Gather the tracks of the steps' outputs that are good enough to be clustered.

    Args:
        tracked: Rows of ``TRACKED``; crops are not needed.
        scored: Rows of ``SCORED``.
        embedded: Rows of ``EMBEDDED``.
        config: Settings.

    Raises:
        EmbeddingError: The embeddings are of several models or widths, or a vector is not of unit length.
    """
    tracked, scored, embedded = (
        table.filter(pc.equal(table["status"], OK)).sort_by("video_id") for table in (tracked, scored, embedded)
    )
    models = sorted(set(embedded["model"].to_pylist()))
    if len(models) > 1:
        raise EmbeddingError(f"embeddings of {len(models)} models ({', '.join(models)}); mine again with one pack")
    tracks = explode(tracked, "tracks", ["video_id"])
    vectors = explode(embedded, "faces", []).sort_by([("track_id", "ascending"), ("face_id", "ascending")])
    if not tracks.num_rows or not vectors.num_rows:
        return no_tracks(models[0] if models else "")
    widths = pc.list_value_length(vectors["vector"]).unique().to_pylist()
    if len(widths) > 1:
        raise EmbeddingError(f"embeddings of {models[0]} with {sorted(widths)} numbers; mine again with one pack")
    names = vectors["face_id"].to_pylist()
    unit = check_vectors(lists_to_vectors(vectors, dtype=np.float32), widths[0], f"embeddings of {models[0]}", names)
    worth = lookup_rows(vectors, _worth_of_faces(tracks, scored, config), "face_id")["worth"].fill_null(0.0).to_numpy()
    ids, means = track_means(vectors["track_id"].to_pylist(), unit, worth, config.best_faces)
    rows = lookup_rows(pa.table({"track_id": pa.array(ids, pa.string())}), tracks.drop_columns(["faces"]), "track_id")
    found = Tracks(
        np.asarray(ids, object),
        rows["video_id"].to_numpy(zero_copy_only=False).astype(object),
        rows["start_frame"].to_numpy().astype(np.int64),
        rows["end_frame"].to_numpy().astype(np.int64),
        means,
        np.full(len(ids), None, object),
        models[0],
    )
    beside = np.unique(cooccurring_pairs(found.spans))
    found.poses[beside] = _poses(explode(tracks, "faces", []), explode(scored, "faces", []), found.track_id[beside])
    return found


def no_tracks(model: str = "", width: int = 0) -> Tracks:
    """Return an empty set of tracks."""
    names, numbers = np.empty(0, object), np.empty(0, np.int64)
    return Tracks(names, names, numbers, numbers, np.empty((0, width), np.float32), names, model)


def join_tracks(parts: list[Tracks]) -> Tracks:
    """Join several sets of tracks into one, in the order of the ids.

    Raises:
        EmbeddingError: The sets are of several models or widths.
    """
    parts = [part for part in parts if len(part)] or parts[:1]
    if not parts:
        return no_tracks()
    kinds = sorted({(part.model, part.vectors.shape[1]) for part in parts})
    if len(kinds) > 1:
        said = ", ".join(f"{model} with {width} numbers" for model, width in kinds)
        raise EmbeddingError(f"embeddings of {len(kinds)} kinds ({said}); mine again with one pack")
    order = np.argsort(np.concatenate([part.track_id for part in parts]), kind="stable")
    columns = {f.name: np.concatenate([getattr(part, f.name) for part in parts])[order] for f in fields(Tracks)[:-1]}
    return Tracks(**columns, model=parts[0].model)


def _poses(faces: pa.Table, scores: pa.Table, track_ids: Strings) -> Strings:
    """Return the poses (``TrackSpans.poses``) of these tracks."""
    faces = faces.filter(pc.is_in(faces["track_id"], pa.array(track_ids, pa.string())))
    scores = lookup_rows(faces, scores, "face_id")
    columns = [faces["frame_index"], *(scores[name] for name in ("yaw_deg", "pitch_deg", "roll_deg"))]
    frames = np.stack([pc.cast(column, pa.float32()).to_numpy() for column in columns], axis=1)
    owner = faces["track_id"].to_numpy(zero_copy_only=False).astype(str)
    order = np.lexsort((frames[:, 0], owner))
    order = order[np.isfinite(frames[order]).all(axis=1)]
    ids = track_ids.astype(str)
    first, last = (np.searchsorted(owner[order], ids, side) for side in ("left", "right"))
    found = np.full(len(ids), None, object)
    for row, (start, stop) in enumerate(zip(first.tolist(), last.tolist(), strict=True)):
        found[row] = frames[order[start:stop]]
    return found


def _worth_of_faces(tracks: pa.Table, scored: pa.Table, config: ClusterConfig) -> pa.Table:
    """Return (face_id, worth) of the faces of tracks that are long enough.

    A face's worth is its width times its sharpness, which counts up to ten times ``min_sharpness``. It is 0 for a face
    that is not ok, has no mesh, or lies below one of the config's least values.
    """
    long = tracks.filter(pc.greater_equal(tracks["n_faces"], config.min_detections))
    faces = explode(long, "faces", [])
    scores = explode(scored, "faces", [])
    meshed = scores.filter(pc.equal(scores["reason"], ""))["face_id"].combine_chunks()
    width, score, sharpness = (
        column.cast(pa.float64()).fill_null(0.0).to_numpy()
        for column in (pc.subtract(faces["x1"], faces["x0"]), faces["score"], faces["sharpness"])
    )
    good = (
        pc.and_(pc.equal(faces["status"], OK), pc.is_in(faces["face_id"], value_set=meshed)).to_numpy()
        & (width >= config.min_width_px)
        & (score >= config.min_score)
        & (sharpness >= config.min_sharpness)
    )
    worth = np.where(good, width * np.minimum(sharpness, 10 * config.min_sharpness), 0.0)
    return pa.table({"face_id": faces["face_id"], "worth": pa.array(worth)})
