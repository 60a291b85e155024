"""Input and output schemas of the mining steps. One row per video, in which its shots, tracks and faces are nested.

The nested structs use the column names of the published tables (``mfhq.schema``), so that publishing only
has to unnest them. The engine moves ``large_binary`` fields into packed files.
"""

from __future__ import annotations

import pyarrow as pa

from mfhq.schema import FACES, LANDMARKS_5, MESH_468, SHOTS, TRACKS, VIDEOS

_KEY = [pa.field("video_id", pa.string(), nullable=False)]
_STATUS = [pa.field("status", pa.string(), nullable=False), pa.field("reason", pa.string(), nullable=False)]


def _struct(schema: pa.Schema, *without: str, extra: tuple[pa.Field, ...] = ()) -> pa.DataType:
    """Return the struct type of a published table's columns, without those that the parent row already has."""
    fields = [f.remove_metadata() for f in schema if f.name not in {"video_id", *without}]
    return pa.struct([*fields, *extra])


SOURCES = pa.schema(
    [
        *_KEY,
        pa.field("uri", pa.string(), nullable=False),
        pa.field("size", pa.int64(), nullable=False),
        pa.field("licence", pa.string()),
        pa.field("consent", pa.string()),
    ]
)
"""Schema of source files with known digest (``pipelines.mining.digests``); ``size`` in bytes, -1 if unreadable."""

_NOT_PROBED = {"video_id", "status", "reason", "n_frames_decoded", "duplicate_of", "duplicate_distance"}

PROBED = pa.schema(
    [
        *_KEY,
        *_STATUS,
        *(f.remove_metadata() for f in VIDEOS if f.name not in _NOT_PROBED),
        pa.field("rotation_deg", pa.int32()),
    ]
)
"""Schema of the output of ``probe``: metadata that the container states, read by PyAV."""

CANDIDATE = _struct(
    FACES,
    "mesh468",
    "yaw_deg",
    "pitch_deg",
    "roll_deg",
    "exposure",
    "occlusion",
    "agreement",
    "matte",
    "crop",
    extra=(
        pa.field("crop", pa.large_binary(), nullable=False),
        pa.field("landmarks5_crop", LANDMARKS_5, nullable=False),
    ),
)
"""Type of a candidate face in the output of ``tracks``: box, landmarks, first scores, aligned crop (WebP, RGB)."""

HASHES = ("hash_times_s", "hashes")
"""Fields of a shot that version 5 of the step ``tracks`` added (``media.frame_hash``)."""


def _tracked(*without: str) -> pa.Schema:
    return pa.schema(
        [
            *_KEY,
            *_STATUS,
            pa.field("n_frames", pa.int64()),
            pa.field("n_frames_decoded", pa.int64()),
            pa.field("shots", pa.list_(_struct(SHOTS, *without))),
            pa.field("tracks", pa.list_(_struct(TRACKS, extra=(pa.field("faces", pa.list_(CANDIDATE)),)))),
        ]
    )


TRACKED = _tracked()
"""Schema of the output of ``tracks``, which decodes every frame: the number of frames that decode; the shots, separated
by cuts, dissolves and fades; and the tracks of the faces in sampled frames, each within one shot, with up to
``TrackConfig.candidates`` candidates per track."""

TRACKED_BEFORE_5 = _tracked(*HASHES)
"""Schema of the output of ``tracks`` before version 5: without the hashes of the shots."""

SEGMENT = pa.schema(
    [
        *_KEY,
        pa.field("number", pa.int32(), nullable=False),
        pa.field("frames", pa.list_(pa.int64()), nullable=False),
        TRACKED.field("tracks"),
    ]
)
"""Schema of a part of a video in work: sampled frames between two hard cuts, in the order of ``number``, and the tracks
through them, whose ``shot_index`` is set when the shots are known."""

SCORES = pa.struct(
    [
        pa.field("face_id", pa.string(), nullable=False),
        pa.field("mesh468", MESH_468),
        *(pa.field(name, pa.float32()) for name in ("yaw_deg", "pitch_deg", "roll_deg", "exposure", "occlusion")),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("matte", pa.large_binary()),
    ]
)
"""Type of the scores of one candidate."""

SCORED = pa.schema([*_KEY, *_STATUS, pa.field("faces", pa.list_(SCORES))])
"""Schema of the output of ``scores``: mesh, matte (PNG, grey), pose and quality of every candidate's crop."""

EMBEDDING = pa.struct(
    [
        pa.field("track_id", pa.string(), nullable=False),
        pa.field("face_id", pa.string(), nullable=False),
        pa.field("vector", pa.list_(pa.float32()), nullable=False),
    ]
)
"""Type of the embedding of one candidate."""

EMBEDDED = pa.schema([*_KEY, *_STATUS, pa.field("model", pa.string()), pa.field("faces", pa.list_(EMBEDDING))])
"""Schema of the output of ``embeddings``: a unit vector for each candidate; stored under the biometric prefix."""
