"""The mined tables of a small corpus in memory, from which tests make assignments."""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa

from mfhq.store import Store
from mfhq.takedowns import read_deny_list
from pipelines.engine.commits import read_step
from pipelines.publishing.publish_presets import SMALL, Preset
from pipelines.publishing.published_videos import mark_taken_down, published_sources
from pipelines.publishing.thresholds import (
    apply_to_faces,
    apply_to_tracks,
    apply_to_videos,
    apply_where,
    outcomes_of_videos,
)
from pipelines.publishing.unnest import STEPS, face_embeddings, faces_table, shots_table, tracks_table, videos_table


def mined_tables(
    store: Store, fingerprints: Mapping[str, str], preset: Preset = SMALL, where: str = ""
) -> dict[str, pa.Table]:
    """Read the steps' outputs as a whole and apply the thresholds: videos, shots, tracks, faces and embeddings."""
    denied = read_deny_list(store)
    outputs = {step: denied.prune(read_step(store, step, fingerprints[step])) for step in STEPS}
    sources = published_sources(store, denied)
    faces, videos = apply_to_faces(faces_table(outputs), preset), videos_table(sources, outputs)
    faces = apply_where(faces, videos, where) if where else faces
    tracks = apply_to_tracks(tracks_table(outputs), faces, preset)
    return {
        "videos": mark_taken_down(apply_to_videos(videos, outcomes_of_videos(tracks)), denied),
        "shots": shots_table(outputs),
        "tracks": tracks,
        "faces": faces,
        "embeddings": face_embeddings(outputs),
    }
