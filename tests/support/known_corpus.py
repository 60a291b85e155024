"""Two snapshots of a few rows, written by hand, so that the answer to every named question can be counted by eye."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from infra.storage import open_store
from mfhq.corpus_tables import record_run
from mfhq.parquet import to_parquet
from mfhq.paths import ledger_path
from mfhq.schema import ATTEMPTS, TABLES
from pipelines.publishing.publish_tables import publish_tables

_ZERO: dict[Any, Any] = {pa.string(): "", pa.int32(): 0, pa.int64(): 0, pa.float32(): 0.0, pa.float64(): 0.0}


def rows(name: str, *given: dict[str, Any]) -> pa.Table:
    """Return rows of a table; what is not given is null, or zero where no null may stand."""
    schema = TABLES[name]
    filled = [
        {f.name: row.get(f.name, None if f.nullable else _ZERO.get(f.type, datetime.now(UTC))) for f in schema}
        for row in given
    ]
    return pa.Table.from_pylist(filled, schema=schema)


def mouth(width: float, gap: float) -> list[float]:
    """Return a mesh whose mouth has this width and this gap between the lips."""
    mesh = [0.0] * (3 * 468)
    mesh[3 * 13 + 1], mesh[3 * 14 + 1] = 10.0, 10.0 + gap
    mesh[3 * 78], mesh[3 * 308] = 5.0, 5.0 + width
    return mesh


def face(face_id: str, track: str, video: str, yaw: float, reason: str = "", **more: Any) -> dict[str, Any]:
    """Return a face of 100 pixels; rejected if a reason is given."""
    ok = {"score": 0.9, "sharpness": 100.0, "exposure": 0.5, "completeness": 1.0, "x0": 0.0, "x1": 100.0}
    status = "rejected" if reason else "ok"
    ids = {"face_id": face_id, "track_id": track, "video_id": video, "yaw_deg": yaw, "pitch_deg": 0.0}
    return {**ok, **ids, "status": status, "reason": reason, **more}


_RIGHTS = {"licence": "CC BY", "consent": "yes"}
VIDEOS = (
    {"video_id": "va", "uri": "/src/a/1.mp4", "status": "ok", "duration_s": 3600.0, "width": 1920, **_RIGHTS},
    {"video_id": "vb", "uri": "/src/a/2.mp4", "status": "ok", "duration_s": 1800.0, "width": 960, **_RIGHTS}
    | {"duplicate_of": "va", "duplicate_distance": 3.0},
    {"video_id": "vc", "uri": "/src/b/3.mp4", "status": "rejected", "reason": "no_face", "duration_s": 900.0},
)
FACES = (
    face("f1", "t1", "va", -40.0, mesh468=mouth(20.0, 0.0)),
    face("f2", "t1", "va", 0.0, mesh468=mouth(20.0, 10.0)),
    face("f3", "t1", "va", 35.0),
    face("f4", "t2", "vb", 50.0),
    face("f5", "t2", "vb", 0.0, "blurred", sharpness=10.0),
    face("f6", "t3", "vb", 5.0),
    face("f7", "t3", "vb", 70.0, "turned_away"),
)


def publish_known(root: Any) -> None:
    """Publish the two snapshots into a folder, with a ledger of five attempts and two runs."""
    store = open_store(root)
    tracks = [{"track_id": t, "video_id": v, "status": "ok"} for t, v in (("t1", "va"), ("t2", "vb"), ("t3", "vb"))]
    person = {"n_tracks": 1, "n_videos": 1, "n_faces": 3, "cohesion": 0.9, "split": "train"}
    chosen = [("p1", "f1", "best"), ("p1", "f3", "pose"), ("p1", "f4", "pose"), ("p1", "f2", "expression")]
    picks = [{"identity_id": p, "face_id": f, "rank": r, "why": w} for r, (p, f, w) in enumerate(chosen)]
    given = [{"track_id": t, "identity_id": p, "source": "clustering"} for t, p in (("t1", "p1"), ("t2", "p1"))]
    first = {
        "videos": rows("videos", VIDEOS[0]),
        "shots": rows("shots", {"video_id": "va"}),
        "tracks": rows("tracks", tracks[0]),
        "faces": rows("faces", FACES[0], FACES[1], {**FACES[2], "status": "rejected", "reason": "blurred"}),
        "identities": rows("identities", {"identity_id": "p1", **person, "n_faces": 2}),
        "assignments": rows("assignments", given[0]),
        "identity_faces": rows("identity_faces", picks[0], picks[3]),
    }
    publish_tables(store, first)
    both = (
        {"identity_id": "p1", **person, "n_tracks": 2, "n_videos": 2, "n_faces": 4},
        {"identity_id": "p2", **person, "n_faces": 1, "split": "val"},
    )
    last = {"identity_id": "p2", "face_id": "f6", "rank": 0, "why": "best"}
    second = {
        "videos": rows("videos", *VIDEOS),
        "shots": rows("shots", {"video_id": "va"}, {"video_id": "vb"}),
        "tracks": rows("tracks", *tracks),
        "faces": rows("faces", *FACES),
        "identities": rows("identities", *both),
        "assignments": rows("assignments", *given, {"track_id": "t3", "identity_id": "p2", "source": "review"}),
        "identity_faces": rows("identity_faces", *picks, last),
        "participants": rows("participants", {"identity_id": "p1", "name": "handedness", "value": "left"}),
        "funnel": rows("funnel", {"stage": "videos", "reason": "ok", "items": 2, "seconds": 3.0, "share": 2 / 3}),
    }
    publish_tables(store, second)
    record_run(store, "publish-1", "publish", "v0001", "abc")
    record_run(store, "train-1", "pretrain", "v0002", "abc", "c0ffee", "publish-1")
    tried = [("va", 1, "failed", "ValueError", 4.0), ("va", 2, "ok", "", 2.0), ("vb", 1, "ok", "", 1.0)]
    ledger = [
        {
            "item_id": i,
            "step": "probe",
            "fingerprint": "p",
            "attempt": n,
            "status": s,
            "reason": r,
            "seconds": t,
            "bytes": 1_000_000,
            "error": r or None,
            "run_id": f"run-{n}",
        }
        for i, n, s, r, t in tried
    ]
    ledger.append({**ledger[0], "item_id": "vc", "error": "ValueError: no index", "seconds": 0.5})
    ledger.append({**ledger[2], "step": "tracks", "seconds": 20.0})
    for step in ("probe", "tracks"):
        table = pa.Table.from_pylist([row for row in ledger if row["step"] == step], schema=ATTEMPTS)
        store.write(ledger_path(step, "p", 0, "run-1", "digest"), to_parquet(table))
