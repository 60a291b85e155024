"""Cluster the tracks of a corpus: from the steps' outputs to the rows of ``assignments``."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from mfhq.ids import digest
from mfhq.schema import ALIASES, ASSIGNMENTS, EMBEDDINGS, OK
from pipelines.identity.cluster import Presence, cluster_tracks
from pipelines.identity.means import track_means
from pipelines.identity.stable import stable_identities


@dataclass(frozen=True, kw_only=True, slots=True)
class ClusterConfig:
    """Which tracks are clustered, and how. What is below these floors tells too little about who it is."""

    threshold: float
    """Cosine distance under which two tracks are one person, for the face pack in use (``FacePack.threshold``)."""
    same_picture: float = 0.75
    """Cosine similarity from which two tracks that are seen at once may be one person (an inset, a mirror)."""
    min_width_px: float = 40.0
    """Of a face's box."""
    min_sharpness: float = 25.0
    """Laplacian variance of the aligned face."""
    min_score: float = 0.75
    """Detector score of a face."""
    min_detections: int = 3
    """Sampled frames in which the track's face was found."""
    best_faces: int = 3
    """Faces whose mean stands for the track."""

    def __post_init__(self) -> None:
        if not 0 < self.threshold < 2:
            raise ValueError(f"ClusterConfig.threshold is {self.threshold}; it must be a cosine distance, from 0 to 2")
        for name in ("min_detections", "best_faces"):
            if getattr(self, name) < 1:
                raise ValueError(f"ClusterConfig.{name} is {getattr(self, name)}; it must be at least 1")


@dataclass(frozen=True)
class Clustering:
    """What a clustering says."""

    version: str
    """Digest of the settings and of who is who: the ``cluster_version`` of its rows."""
    assignments: pa.Table
    """``mfhq.schema.ASSIGNMENTS``; tracks that were not good enough to cluster are not in it."""
    aliases: pa.Table
    """``mfhq.schema.ALIASES``."""
    track_embeddings: pa.Table
    """``mfhq.schema.EMBEDDINGS``: each clustered track's mean (face_id is empty). Biometric data."""


def assign_identities(
    tracked: pa.Table,
    scored: pa.Table,
    embedded: pa.Table,
    config: ClusterConfig,
    previous: Mapping[str, str] | None = None,
    retired: Collection[str] = (),
) -> Clustering:
    """Who is who, among all tracks of the steps' outputs (``TRACKED``, crops not needed; ``SCORED``; ``EMBEDDED``).

    ``previous`` maps track to identity in the clustering before, ``retired`` are ids that aliases stand for: identity
    ids survive where the people do (``stable_identities``). The same rows in another order give the same result.
    """
    tracks = {t["track_id"]: (row["video_id"], t) for row in _ok(tracked) for t in row["tracks"] or ()}
    meshed = {face["face_id"] for row in _ok(scored) for face in row["faces"] or () if not face["reason"]}
    worth = {
        face["face_id"]: _worth(face, config) if face["face_id"] in meshed else 0.0
        for _, track in tracks.values()
        if track["n_faces"] >= config.min_detections
        for face in track["faces"]
    }
    rows = _ok(embedded)
    faces = sorted((f["track_id"], f["face_id"], f["vector"]) for row in rows for f in row["faces"] or ())
    ids, means = track_means(
        [track_id for track_id, _, _ in faces],
        np.asarray([vector for _, _, vector in faces], np.float32),
        [worth.get(face_id, 0.0) for _, face_id, _ in faces],
        config.best_faces,
    )
    presences = [
        Presence(video_id=video_id, start_frame=track["start_frame"], end_frame=track["end_frame"])
        for video_id, track in (tracks[track_id] for track_id in ids)
    ]
    labels = cluster_tracks(ids, means, presences, config.threshold, config.same_picture)
    who, aliases = stable_identities(labels.tolist(), ids, previous or {}, retired)
    model = next((row["model"] for row in rows), "")
    version = digest([asdict(config), model, who], 16)
    similarity = _similarities(means, labels)
    said = {"cluster_version": version, "source": "clustering"}
    return Clustering(
        version,
        pa.Table.from_pylist(
            [
                {"track_id": t, "identity_id": who[t], "similarity": s, **said}
                for t, s in zip(ids, similarity, strict=True)
            ],
            schema=ASSIGNMENTS,
        ),
        pa.Table.from_pylist([asdict(alias) | {"cluster_version": version} for alias in aliases], schema=ALIASES),
        pa.Table.from_pylist(
            [{"track_id": t, "face_id": "", "model": model, "vector": v} for t, v in zip(ids, means, strict=True)],
            schema=EMBEDDINGS,
        ),
    )


def _ok(table: pa.Table) -> list[dict[str, Any]]:
    """The rows that a step gave something for, by video."""
    return sorted((row for row in table.to_pylist() if row["status"] == OK), key=lambda row: row["video_id"])


def _worth(face: dict[str, Any], config: ClusterConfig) -> float:
    """What a face is worth for telling who it is: its width times its sharpness (up to ten times the least)."""
    width = face["x1"] - face["x0"]
    if face["status"] != OK or width < config.min_width_px or face["score"] < config.min_score:
        return 0.0
    if face["sharpness"] < config.min_sharpness:
        return 0.0
    return float(width * min(face["sharpness"], 10 * config.min_sharpness))


def _similarities(means: np.ndarray, labels: np.ndarray) -> list[float]:
    """Cosine similarity of each track (N, D) to the mean of its cluster."""
    centres = {label: means[labels == label].mean(axis=0) for label in np.unique(labels)}
    return [
        round(float(mean @ centres[label] / np.linalg.norm(centres[label])), 4)
        for mean, label in zip(means, labels, strict=True)
    ]
