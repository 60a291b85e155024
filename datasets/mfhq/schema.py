"""Schemas of every corpus table, defined here and nowhere else.

Writers, view definitions and audits all read these schemas. Every field carries its
description and unit in the Arrow field metadata (``description``, ``unit``), and every table its own
description and unique key in the schema metadata (``description``, ``key``).

Conventions: boxes and landmarks are pixels of the upright frame (x right, y down, origin at the
top-left corner of the top-left pixel); angles are degrees; cameras are OpenCV (x right, y down,
z forward), world to camera, metres; ``end_frame`` is exclusive.
"""

from __future__ import annotations

import hashlib
import json

import pyarrow as pa

OK, REJECTED, FAILED = "ok", "rejected", "failed"
STATUSES = (OK, REJECTED, FAILED)
"""Outcomes of an item: see the column ``status``."""

BLOB_REF = pa.struct([("uri", pa.string()), ("offset", pa.int64()), ("length", pa.int64()), ("sha256", pa.string())])
"""Location of an encoded image: a path relative to the corpus, a byte range in that file, and the digest of
those bytes (hexadecimal; null where the writer gave none). A snapshot's digest includes the digest alone."""

MATRIX_3X3 = pa.list_(pa.float64(), 9)
MATRIX_3X4 = pa.list_(pa.float64(), 12)
LANDMARKS_5 = pa.list_(pa.float32(), 10)
MESH_468 = pa.list_(pa.float32(), 468 * 3)


def field(name: str, kind: pa.DataType, description: str, unit: str = "", nullable: bool = True) -> pa.Field:
    """Define an Arrow field whose metadata holds its description and unit.

    Args:
        name: Name of the column.
        kind: Arrow type.
        description: Meaning of the value.
        unit: Unit of the value; empty for none.
        nullable: Whether a row may have no value.
    """
    return pa.field(name, kind, nullable=nullable, metadata={"description": description, "unit": unit})


def table_schema(description: str, key: tuple[str, ...], *fields: pa.Field) -> pa.Schema:
    """Define the schema of a table.

    Args:
        description: Meaning of one row.
        key: Columns that are unique together.
        fields: The columns.
    """
    return pa.schema(fields, metadata={"description": description, "key": ",".join(key)})


def key_of(schema: pa.Schema) -> tuple[str, ...]:
    """Return the columns of a table that are unique together."""
    return tuple((schema.metadata or {})[b"key"].decode().split(","))


def schema_hash(schema: pa.Schema) -> str:
    """Return a digest of names, types and nullability; a reworded description does not change it."""
    rows = [[f.name, str(f.type), f.nullable] for f in schema]
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:16]


def _status(what: str) -> tuple[pa.Field, pa.Field]:
    return (
        field(
            "status", pa.string(), f"ok, rejected (on purpose) or failed: what became of this {what}", nullable=False
        ),
        field(
            "reason", pa.string(), "machine-readable reason code; empty when there is nothing to say", nullable=False
        ),
    )


_ID = pa.string()

VIDEOS = table_schema(
    "a source file",
    ("video_id",),
    field("video_id", _ID, "sha256 of the file's bytes, hexadecimal", nullable=False),
    field("uri", pa.string(), "where the file was found", nullable=False),
    *_status("file"),
    field("codec", pa.string(), "video codec as the container names it"),
    field("width", pa.int32(), "width of the upright frame", "px"),
    field("height", pa.int32(), "height of the upright frame", "px"),
    field("fps", pa.float64(), "average frame rate", "1/s"),
    field("duration_s", pa.float64(), "duration that the container states", "s"),
    field("n_frames", pa.int64(), "frames that the container promises"),
    field("n_frames_decoded", pa.int64(), "frames that could be decoded"),
    field("licence", pa.string(), "licence, from the source list"),
    field("consent", pa.string(), "consent, from the source list"),
    field(
        "duplicate_of", _ID, "the file of which this one is a copy, for the most part (table duplicates); null for none"
    ),
    field("duplicate_distance", pa.float32(), "mean distance of the copied shots, as in duplicates", "bits of 64"),
)

SHOTS = table_schema(
    "a run of frames with no cut in it",
    ("video_id", "shot_index"),
    field("video_id", _ID, "the file", nullable=False),
    field("shot_index", pa.int32(), "position in the file, from 0", nullable=False),
    field("start_frame", pa.int64(), "first frame", nullable=False),
    field("end_frame", pa.int64(), "one past the last frame", nullable=False),
    field("transition", pa.string(), "how the shot begins: hard, dissolve, fade or none", nullable=False),
    field(
        "hash_times_s",
        pa.list_(pa.float32()),
        "times of the sampled frames that are not blank; null if mined before",
        "s",
    ),
    field(
        "hashes", pa.list_(pa.int64()), "perceptual hashes of these frames: eight a frame, the first of the whole one"
    ),
)

DUPLICATES = table_schema(
    "a shot that is a copy of another one or of a part of it: encoded again, scaled, cropped or cut shorter",
    ("video_id", "shot_index", "rank"),
    field("video_id", _ID, "the file of the copy", nullable=False),
    field("shot_index", pa.int32(), "the copy", nullable=False),
    field("rank", pa.int32(), "0 for the original that it is most like; others have rows too", nullable=False),
    field("duplicate_of", _ID, "the file of the original: the longest copy, then the widest face", nullable=False),
    field("original_shot", pa.int32(), "the original", nullable=False),
    field(
        "distance", pa.float32(), "mean number of bits in which the hashes of frames at the same time differ", "of 64"
    ),
    field("agreement", pa.float32(), "correlation of the hashes' changes over time; 1 for a still shot", "-1 to 1"),
    field("share", pa.float32(), "share of the shorter shot's frames that are in both", "0 to 1"),
)

TRACKS = table_schema(
    "one face followed through one shot",
    ("track_id",),
    field("track_id", _ID, "hash of video, first frame and first box", nullable=False),
    field("video_id", _ID, "the file", nullable=False),
    field("shot_index", pa.int32(), "the shot", nullable=False),
    field("start_frame", pa.int64(), "first frame in which the face was detected", nullable=False),
    field("end_frame", pa.int64(), "one past the last frame in which it was detected", nullable=False),
    field("n_faces", pa.int32(), "detections in the track", nullable=False),
    *_status("track"),
    field("mean_width_px", pa.float32(), "mean width of the face box", "px"),
    field("mean_sharpness", pa.float32(), "mean sharpness of the kept faces", "Laplacian variance of the aligned crop"),
)

FACES = table_schema(
    "one face in one frame: a candidate kept for its track",
    ("face_id",),
    field("face_id", _ID, "hash of track, frame and box", nullable=False),
    field("track_id", _ID, "the track", nullable=False),
    field("video_id", _ID, "the file", nullable=False),
    field("frame_index", pa.int64(), "frame number in decoding order, from 0", nullable=False),
    field("time_s", pa.float64(), "presentation time of the frame", "s"),
    field("x0", pa.float32(), "left edge of the face box", "px"),
    field("y0", pa.float32(), "upper edge of the face box", "px"),
    field("x1", pa.float32(), "right edge of the face box", "px"),
    field("y1", pa.float32(), "lower edge of the face box", "px"),
    field("score", pa.float32(), "detector score", "0 to 1"),
    field(
        "landmarks5",
        LANDMARKS_5,
        "left eye, right eye, nose, left and right mouth corner (the picture's left): x, y each, in the frame",
        "px",
    ),
    field(
        "mesh468",
        MESH_468,
        "468 face mesh points, x, y, z each: x and y in pixels of the aligned crop, z on the same scale, smaller is nearer",
        "px of the crop",
    ),
    field("yaw_deg", pa.float32(), "turn of the head; positive looks to the picture's right", "deg"),
    field("pitch_deg", pa.float32(), "nod of the head; positive looks up", "deg"),
    field("roll_deg", pa.float32(), "tilt of the head in the frame; positive is clockwise in the picture", "deg"),
    field(
        "sharpness",
        pa.float32(),
        "Laplacian variance of the 112-pixel aligned crop in grey levels",
        "grey levels squared",
    ),
    field("exposure", pa.float32(), "mean luminance of the face, less the share of clipped pixels", "0 to 1"),
    field("occlusion", pa.float32(), "share of the face's mesh that the matte does not cover", "0 to 1"),
    field("completeness", pa.float32(), "share of the face box that lies inside the frame", "0 to 1"),
    field("compression", pa.float32(), "blockiness: excess gradient on the codec's 8-pixel grid", "ratio - 1"),
    field(
        "agreement",
        pa.float32(),
        "cosine similarity of this face's embedding with the mean of the others of its track",
        "-1 to 1",
    ),
    *_status("face"),
    field("crop", BLOB_REF, "the aligned crop, an encoded picture"),
    field("matte", BLOB_REF, "the matte of the crop, an encoded grey picture; 255 is the person"),
)

MESHES = table_schema(
    "the mesh of a face, in the order of the table faces; apart from it, since meshes take most of the bytes",
    ("face_id",),
    field("face_id", _ID, "the face", nullable=False),
    field("track_id", _ID, "the track", nullable=False),
    field("video_id", _ID, "the file", nullable=False),
    FACES.field("mesh468"),
)

EMBEDDINGS = table_schema(
    "a face's or a track's embedding: biometric data, kept under a prefix of its own",
    ("track_id", "face_id", "model"),
    field("track_id", _ID, "the track", nullable=False),
    field("face_id", _ID, "the face; empty for a track's mean", nullable=False),
    field("model", pa.string(), "the embedding model and the digest of its weights", nullable=False),
    field("vector", pa.list_(pa.float32()), "unit vector", nullable=False),
)

IDENTITIES = table_schema(
    "a person",
    ("identity_id",),
    field("identity_id", _ID, "stable id of the person", nullable=False),
    field("n_tracks", pa.int32(), "tracks assigned", nullable=False),
    field("n_videos", pa.int32(), "files in which the person appears", nullable=False),
    field("n_faces", pa.int32(), "faces chosen for training", nullable=False),
    field("cohesion", pa.float32(), "mean cosine similarity of the tracks to their centre", "-1 to 1"),
    field("split", pa.string(), "train, val or test", nullable=False),
)

ASSIGNMENTS = table_schema(
    "a track given to a person",
    ("track_id",),
    field("track_id", _ID, "the track", nullable=False),
    field("identity_id", _ID, "the person", nullable=False),
    field("cluster_version", pa.string(), "digest of the clustering that said so", nullable=False),
    field("similarity", pa.float32(), "cosine similarity of the track to the person's centre", "-1 to 1"),
    field("source", pa.string(), "clustering or review", nullable=False),
)

IDENTITY_FACES = table_schema(
    "a face chosen for training",
    ("identity_id", "face_id"),
    field("identity_id", _ID, "the person", nullable=False),
    field("face_id", _ID, "the face", nullable=False),
    field("rank", pa.int32(), "order of choice, from 0", nullable=False),
    field("why", pa.string(), "what it adds: best, pose, expression or time", nullable=False),
)

DIVERSITY = table_schema(
    "how much the chosen faces of a person differ, against as many drawn at random; for two faces or more",
    ("identity_id",),
    field("identity_id", _ID, "the person", nullable=False),
    field("n_good", pa.int32(), "faces that clear the thresholds", nullable=False),
    field("n_chosen", pa.int32(), "faces chosen for training", nullable=False),
    field(
        "distance",
        pa.float32(),
        "mean distance of two chosen faces in pose, expression and time",
        "1 is a turn of 20 degrees, or a mouth wide open",
        nullable=False,
    ),
    field(
        "distance_at_random",
        pa.float32(),
        "the same on average if as many were drawn at random from the good ones",
        "as distance",
        nullable=False,
    ),
    field(
        "nearest",
        pa.float32(),
        "mean distance of a chosen face to the chosen one most like it",
        "as distance",
        nullable=False,
    ),
    field(
        "nearest_at_random",
        pa.float32(),
        "the same on average if as many were drawn at random from the good ones",
        "as distance",
        nullable=False,
    ),
)

CAMERAS = table_schema(
    "a calibrated camera of a multi-view capture",
    ("capture_id", "camera_id"),
    field("capture_id", _ID, "the capture", nullable=False),
    field("camera_id", pa.string(), "the camera's name in its data set", nullable=False),
    field("K", MATRIX_3X3, "intrinsics of the full image, row by row", "px", nullable=False),
    field(
        "distortion",
        pa.list_(pa.float64()),
        "distortion coefficients in OpenCV's order; empty for none",
        nullable=False,
    ),
    field("world_to_camera", MATRIX_3X4, "3 x 4, row by row, OpenCV axes", "m", nullable=False),
    field("width", pa.int32(), "full image width", "px", nullable=False),
    field("height", pa.int32(), "full image height", "px", nullable=False),
)

CAPTURES = table_schema(
    "a multi-view capture of one person",
    ("capture_id",),
    field("capture_id", _ID, "the capture", nullable=False),
    field("identity_id", _ID, "the person", nullable=False),
    field("dataset", pa.string(), "ava256, nersemble or studio", nullable=False),
    field("licence", pa.string(), "licence of the data set"),
    field("n_cameras", pa.int32(), "cameras", nullable=False),
    field("n_frames", pa.int32(), "moments", nullable=False),
)

PARTICIPANTS = table_schema(
    "a word that a data set says of a person",
    ("identity_id", "name"),
    field("identity_id", _ID, "the person", nullable=False),
    field("name", pa.string(), "what is said, by the data set's own name for it", nullable=False),
    field("value", pa.string(), "as it stands there", nullable=False),
)

VIEWS = table_schema(
    "an image of a multi-view capture",
    ("view_id",),
    field("view_id", _ID, "hash of capture, camera and frame", nullable=False),
    field("capture_id", _ID, "the capture", nullable=False),
    field("identity_id", _ID, "the person", nullable=False),
    field("camera_id", pa.string(), "the camera", nullable=False),
    field("frame_index", pa.int64(), "the moment: views of one moment share it", nullable=False),
    field("time_s", pa.float64(), "time of the moment", "s"),
    field("image", BLOB_REF, "the picture, encoded"),
    field("matte", BLOB_REF, "its matte, an encoded grey picture; 255 is the person"),
    field("K", MATRIX_3X3, "intrinsics of this image, after crop and resize, row by row", "px"),
    field("head_to_world", MATRIX_3X4, "head pose, 3 x 4, row by row", "m"),
    field("segment", pa.string(), "name of the recorded segment"),
    field("split", pa.string(), "train, val or test", nullable=False),
    *_status("view"),
)

ALIASES = table_schema(
    "an identity that became another",
    ("identity_id",),
    field("identity_id", _ID, "the id that is no longer used", nullable=False),
    field("now", _ID, "the id that stands for it", nullable=False),
    field("kind", pa.string(), "merge or split", nullable=False),
    field("cluster_version", pa.string(), "the clustering that said so", nullable=False),
)

DECISIONS = table_schema(
    "a reviewer's word on a track's identity; of two on one track the later one holds",
    ("decision_id",),
    field("decision_id", _ID, "hash of the decision", nullable=False),
    field(
        "kind",
        pa.string(),
        "accept (the track is this person), split (the track is not this person) or merge (other_id is this person too)",
        nullable=False,
    ),
    field("identity_id", _ID, "the person", nullable=False),
    field("track_id", _ID, "the track; empty for a decision on whole identities (a merge)", nullable=False),
    field(
        "other_id",
        _ID,
        "of a merge the identity that goes up in this one; of a split the one that the track goes to, empty for a new one (tracks of a person split off by one reviewer at one moment are one new person); empty otherwise",
        nullable=False,
    ),
    field("reviewer", pa.string(), "who said so"),
    field("made_at", pa.timestamp("us", tz="UTC"), "when"),
)

TAKEDOWNS = table_schema(
    "a take-down: what has to leave the corpus",
    ("takedown_id",),
    field("takedown_id", _ID, "hash of the request", nullable=False),
    field("kind", pa.string(), "video, source, identity or photograph", nullable=False),
    field(
        "target",
        pa.string(),
        "digest of the id or URI (mfhq.takedowns.token): what is gone is not named",
        nullable=False,
    ),
    field("made_at", pa.timestamp("us", tz="UTC"), "when"),
)

RUNS = table_schema(
    "a run that made or read a snapshot",
    ("run_id",),
    field("run_id", _ID, "the tracking run", nullable=False),
    field("kind", pa.string(), "mine, cluster, publish, pretrain, multiview, personalize ...", nullable=False),
    field("snapshot", pa.string(), "the snapshot made or read; empty for none", nullable=False),
    field("git_revision", pa.string(), "revision of the code"),
    field("config_hash", pa.string(), "digest of the configuration"),
    field("parent_run_id", pa.string(), "the run that this one continues"),
)

ATTEMPTS = table_schema(
    "one attempt at one item",
    ("item_id", "step", "fingerprint", "run_id", "attempt"),
    field("item_id", _ID, "the item", nullable=False),
    field("step", pa.string(), "the step", nullable=False),
    field("fingerprint", pa.string(), "the step's fingerprint", nullable=False),
    field("attempt", pa.int32(), "1 for the first attempt ever", nullable=False),
    *_status("attempt"),
    field("error", pa.string(), "class and short traceback of a failure"),
    field("seconds", pa.float64(), "time spent, the item's share of its batch", "s"),
    field("bytes", pa.int64(), "bytes written for the item", "B"),
    field("host", pa.string(), "the machine"),
    field("run_id", _ID, "the run", nullable=False),
)

FUNNEL = table_schema(
    "a stage of the funnel",
    ("stage", "reason"),
    field("stage", pa.string(), "videos, shots, tracks, faces or identities", nullable=False),
    field("reason", pa.string(), "ok, or the reason code", nullable=False),
    field("items", pa.int64(), "items", nullable=False),
    field("seconds", pa.float64(), "processing time spent on them", "s"),
    field("share", pa.float64(), "share of the stage's items", "0 to 1"),
)

CHOSEN = table_schema(
    "a face chosen for training, with its person, pose, scores and images; ordered by person and rank",
    ("identity_id", "face_id"),
    field("identity_id", _ID, "the person", nullable=False),
    field("rank", pa.int32(), "order of choice, from 0", nullable=False),
    field("why", pa.string(), "what it adds: best, pose, expression or time", nullable=False),
    field("split", pa.string(), "the person's split: train, val or test", nullable=False),
    field("face_id", _ID, "the face", nullable=False),
    field("track_id", _ID, "the track", nullable=False),
    field("video_id", _ID, "the file", nullable=False),
    *(FACES.field(name) for name in ("frame_index", "time_s")),
    field("width_px", pa.float32(), "width of the face box", "px"),
    *(FACES.field(name) for name in ("yaw_deg", "pitch_deg", "roll_deg")),
    field(
        "mouth_open",
        pa.float32(),
        "distance of the lips' inner edges, as a share of the mouth's width, on the mesh; null where there is no mesh",
        "ratio",
    ),
    *(FACES.field(name) for name in ("score", "sharpness", "exposure", "occlusion", "crop", "matte")),
)

COSTS = table_schema(
    "what a step spent on items of one outcome; every attempt counts",
    ("step", "fingerprint", "status", "reason"),
    field("step", pa.string(), "the step", nullable=False),
    field("fingerprint", pa.string(), "the step's fingerprint", nullable=False),
    *_status("attempt"),
    field("items", pa.int64(), "items whose latest attempt has this outcome", nullable=False),
    field("attempts", pa.int64(), "attempts that had this outcome", nullable=False),
    field("seconds", pa.float64(), "time spent on these attempts", "s", nullable=False),
    field("bytes", pa.int64(), "bytes written by them", "B", nullable=False),
)

TABLES: dict[str, pa.Schema] = {
    "videos": VIDEOS,
    "shots": SHOTS,
    "duplicates": DUPLICATES,
    "tracks": TRACKS,
    "faces": FACES,
    "meshes": MESHES,
    "embeddings": EMBEDDINGS,
    "identities": IDENTITIES,
    "assignments": ASSIGNMENTS,
    "identity_faces": IDENTITY_FACES,
    "chosen": CHOSEN,
    "diversity": DIVERSITY,
    "cameras": CAMERAS,
    "captures": CAPTURES,
    "participants": PARTICIPANTS,
    "views": VIEWS,
    "aliases": ALIASES,
    "decisions": DECISIONS,
    "takedowns": TAKEDOWNS,
    "runs": RUNS,
    "attempts": ATTEMPTS,
    "costs": COSTS,
    "funnel": FUNNEL,
}
"""Schema of every view of a corpus by its name; the names are a contract."""

NOT_DIGESTED = frozenset({"runs", "attempts", "costs", "funnel", "chosen"})
"""Tables that a snapshot's digest leaves out: those with run ids and times, and ``chosen``, a join of other tables."""


ADDED_COLUMNS: dict[str, tuple[str, ...]] = {
    "videos": ("duplicate_of", "duplicate_distance"),
    "shots": ("hash_times_s", "hashes"),
}
"""Columns that the files of earlier versions lack; they are null there."""


def former_schema(name: str) -> pa.Schema:
    """Return the schema of a table's files before ``ADDED_COLUMNS``."""
    return pa.schema([f for f in stored_schema(name) if f.name not in ADDED_COLUMNS.get(name, ())])


def stored_schema(name: str) -> pa.Schema:
    """Return the schema of a published table's files: that of the view, but for ``mesh468``, which ``meshes`` holds."""
    schema = TABLES[name]
    return schema.remove(schema.get_field_index("mesh468")) if name == "faces" else schema
