"""``identities``, ``assignments`` and ``aliases`` of a snapshot."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from mfhq.schema import ALIASES, IDENTITIES, OK
from pipelines.publishing.publish_presets import Preset
from pipelines.publishing.unnest import vectors_of

TRAIN, VAL, TEST = "train", "val", "test"


def split_of(identity_id: str, preset: Preset) -> str:
    """train, val or test, by a hash of the id alone: adding people moves nobody to another split."""
    place = int(hashlib.sha256(b"split:" + identity_id.encode()).hexdigest()[:12], 16) / 16**12
    if place < preset.test_share:
        return TEST
    return VAL if place < preset.test_share + preset.val_share else TRAIN


def kept_assignments(assignments: pa.Table, tracks: pa.Table) -> pa.Table:
    """The assignments of tracks that the corpus uses."""
    used = tracks.filter(pc.equal(tracks["status"], OK))["track_id"].combine_chunks()
    return assignments.filter(pc.is_in(assignments["track_id"], value_set=used))


def aliases_so_far(before: pa.Table, fresh: pa.Table, assignments: pa.Table) -> pa.Table:
    """``aliases`` of a snapshot: those of the one before, led on where this clustering moved their target, and the new.

    An id that names somebody again is no alias.
    """
    now_of = dict(zip(fresh["identity_id"].to_pylist(), fresh["now"].to_pylist(), strict=True))
    used = {*assignments["identity_id"].to_pylist(), *now_of}
    kept = [row for row in before.to_pylist() if row["identity_id"] not in used]
    led_on = [row | {"now": now_of.get(row["now"], row["now"])} for row in kept]
    return pa.concat_tables([pa.Table.from_pylist(led_on, schema=ALIASES), fresh.cast(ALIASES)])


def identities_table(
    assignments: pa.Table, tracks: pa.Table, means: pa.Table, chosen: pa.Table, preset: Preset
) -> pa.Table:
    """``identities``: everybody to whom a track is assigned, those with few faces too.

    ``means`` are the ``embeddings`` rows of whole tracks that people were clustered by.
    """
    video_of = dict(zip(tracks["track_id"].to_pylist(), tracks["video_id"].to_pylist(), strict=True))
    vector_of = dict(zip(means["track_id"].to_pylist(), vectors_of(means), strict=True))
    faces = Counter(chosen["identity_id"].to_pylist())
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
            "n_faces": faces[identity],
            "cohesion": _cohesion([vector_of[track] for track in sorted(members) if track in vector_of]),
            "split": split_of(identity, preset),
        }
        for identity, members in sorted(tracks_of.items())
    ]
    return pa.Table.from_pylist(rows, schema=IDENTITIES)


def _cohesion(vectors: list[npt.NDArray[np.float64]]) -> float | None:
    """Mean cosine similarity of unit vectors to their centre; null for none."""
    if not vectors:
        return None
    centre = np.mean(vectors, axis=0)
    return round(float(np.mean(np.array(vectors) @ (centre / max(float(np.linalg.norm(centre)), 1e-9)))), 4)
