"""The tables ``identities`` and ``assignments`` of a snapshot."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from mfhq.schema import IDENTITIES, OK
from pipelines.identity.vector_lists import lists_to_vectors
from pipelines.publishing.publish_presets import Preset

TRAIN, VAL, TEST = "train", "val", "test"


def split_of_identity(identity_id: str, preset: Preset) -> str:
    """Return the split of a person: train, val or test.

    The split depends on a hash of the id alone, so it stays the same when people are added.

    Args:
        identity_id: The person.
        preset: Shares of val and test.
    """
    share = int(hashlib.sha256(b"split:" + identity_id.encode()).hexdigest()[:12], 16) / 16**12
    if share < preset.test_share:
        return TEST
    return VAL if share < preset.test_share + preset.val_share else TRAIN


def select_assignments(assignments: pa.Table, tracks: pa.Table) -> pa.Table:
    """Select the assignments of tracks that are ok.

    Args:
        assignments: ``mfhq.schema.ASSIGNMENTS`` rows.
        tracks: ``mfhq.schema.TRACKS`` rows after the preset's thresholds.
    """
    ok_tracks = tracks.filter(pc.equal(tracks["status"], OK))["track_id"].combine_chunks()
    return assignments.filter(pc.is_in(assignments["track_id"], value_set=ok_tracks))


def identities_table(
    assignments: pa.Table, tracks: pa.Table, means: pa.Table, chosen: pa.Table, preset: Preset
) -> pa.Table:
    """Build the table ``identities``: every person with an assigned track, including those with few faces.

    Args:
        assignments: ``mfhq.schema.ASSIGNMENTS`` rows of the tracks that are ok.
        tracks: ``mfhq.schema.TRACKS`` rows.
        means: ``mfhq.schema.EMBEDDINGS`` rows of the clustered tracks; without them the cohesion is null.
        chosen: ``mfhq.schema.IDENTITY_FACES`` rows.
        preset: Shares of the splits.
    """
    video_of = dict(zip(tracks["track_id"].to_pylist(), tracks["video_id"].to_pylist(), strict=True))
    vector_of = dict(zip(means["track_id"].to_pylist(), lists_to_vectors(means), strict=True))
    n_faces = Counter(chosen["identity_id"].to_pylist())
    tracks_of: defaultdict[str, list[str]] = defaultdict(list)
    for track, identity in zip(
        assignments["track_id"].to_pylist(), assignments["identity_id"].to_pylist(), strict=True
    ):
        tracks_of[identity].append(track)
    rows = [
        {
            "identity_id": identity,
            "n_tracks": len(members),
            "n_videos": len({video_of[track] for track in members}),
            "n_faces": n_faces[identity],
            "cohesion": _cohesion([vector_of[track] for track in sorted(members) if track in vector_of]),
            "split": split_of_identity(identity, preset),
        }
        for identity, members in sorted(tracks_of.items())
    ]
    return pa.Table.from_pylist(rows, schema=IDENTITIES)


def _cohesion(vectors: list[npt.NDArray[np.float64]]) -> float | None:
    """Return the mean cosine similarity of unit vectors to their centroid; None if there are no vectors."""
    if not vectors:
        return None
    centroid = np.mean(vectors, axis=0)
    return round(float(np.mean(np.array(vectors) @ (centroid / max(float(np.linalg.norm(centroid)), 1e-9)))), 4)
