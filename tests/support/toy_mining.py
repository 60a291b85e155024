"""Mining-shaped steps that decode nothing: made-up tracks, faces and images that depend on the video's id alone.

The URI says what a video is: ``good-{person}``, ``noface``, ``junk`` (no video), ``bad`` (the step raises);
``good-{person}.and-{other}`` shows two people; ``.take-{number}-{start}-{end}`` says which sampled frames of which take
it shows, so that its shot has hashes.
"""

from __future__ import annotations

import os
import time
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa

from mfhq.ids import child_id, digest, seed_of
from mfhq.schema import ASSIGNMENTS, EMBEDDINGS
from pipelines.engine.step import Resources, Step
from pipelines.mining.schemas import EMBEDDED, PROBED, SCORED, SOURCES, TRACKED

AFTER = {"scores": "tracks", "embeddings": "tracks"}
FACES = 4


def sources(n: int, people: int = 4) -> pa.Table:
    """n videos: every ninth junk, every tenth without a face, every eleventh makes its step raise."""
    rows = []
    for i in range(n):
        kind = "junk" if i % 9 == 4 else "noface" if i % 10 == 6 else "bad" if i % 11 == 8 else f"good-{i % people}"
        video_id = digest(["video", i], 64)
        rows.append({"video_id": video_id, "uri": f"/videos/{i:05d}-{kind}.mp4", "size": i, "licence": "CC0"})
    return pa.Table.from_pylist(rows, schema=SOURCES)


def probe(resource, table):
    rows = [
        {**row, "status": "rejected", "reason": "not_a_video"}
        if "junk" in row["uri"]
        else {**row, "status": "failed", "reason": "unreachable"}
        if row["size"] < 0
        else {
            **row,
            "status": "ok",
            "reason": "",
            "codec": "h264",
            "width": 640,
            "height": 480,
            "fps": 25.0,
            "n_frames": 100,
        }
        for row in table.to_pylist()
    ]
    return pa.Table.from_pylist([{f.name: row.get(f.name) for f in PROBED} for row in rows], schema=PROBED)


def tracks(seconds, table):
    if log := os.environ.get("TOY_LOG"):
        with Path(log).open("a") as stream:
            stream.writelines(f"{row['video_id']}\n" for row in table.to_pylist())
    time.sleep(seconds * table.num_rows)
    rows = []
    for row in table.to_pylist():
        if "bad" in row["uri"]:
            raise ValueError("a step that raises")
        nobody = "noface" in row["uri"]
        status, reason = ("rejected", "no_face") if nobody else ("ok", "")
        rows.append(
            {
                "video_id": row["video_id"],
                "status": status,
                "reason": reason,
                "n_frames": 100,
                "n_frames_decoded": 100,
                "shots": [
                    {"shot_index": 0, "start_frame": 0, "end_frame": 100, "transition": "none", **hashes(row["uri"])}
                ],
                "tracks": [] if nobody else [track(row), *([track(row, 300)] if ".and-" in row["uri"] else [])],
            }
        )
    return pa.Table.from_pylist(rows, schema=TRACKED)


def hashes(uri):
    """The hashes of a shot: a take has a picture of its own, of which a few bits change from frame to frame."""
    if ".take-" not in uri:
        return {}
    number, start, end = (int(value) for value in uri.rsplit(".take-")[-1].split(".")[0].split("-"))
    rng = np.random.default_rng(number)
    changing = rng.integers(0, 64, (200, 8, 3), dtype=np.uint64)
    values = rng.integers(0, 2**64, 8, dtype=np.uint64) ^ np.bitwise_or.reduce(np.uint64(1) << changing, axis=-1)
    times = [round(0.2 * i, 3) for i in range(end - start)]
    return {"hash_times_s": times, "hashes": values[start:end].ravel().view(np.int64).tolist()}


def person_of(uri, left=0):
    """The person whom a video shows at a place."""
    return int(uri.rsplit(".and-" if left else "good-")[-1].split(".")[0])


def track(row, left=0):
    video_id, rng = row["video_id"], np.random.default_rng(seed_of(row["video_id"]) + left)
    track_id = child_id(video_id, 0, [left, 0, left + 10, 10])
    return {
        "track_id": track_id,
        "shot_index": 0,
        "start_frame": 0,
        "end_frame": 90,
        "n_faces": 18,
        "status": "ok",
        "reason": "",
        "mean_width_px": 100.0,
        "mean_sharpness": 200.0,
        "faces": [
            {
                "face_id": child_id(track_id, frame, [frame, 0, 10, 10]),
                "track_id": track_id,
                "frame_index": frame,
                "time_s": frame / 25,
                "x0": 10.0 + left,
                "y0": 10.0,
                "x1": 110.0 + left,
                "y1": 130.0,
                "score": 0.9,
                "landmarks5": [0.0] * 10,
                "landmarks5_crop": [0.0] * 10,
                "sharpness": 200.0 + frame,
                "completeness": 1.0,
                "compression": 0.0,
                "status": "ok",
                "reason": "",
                "crop": rng.bytes(40) + f" {person_of(row['uri'], left)} {row['uri']}".encode(),
            }
            for frame in range(0, 20 * FACES, 20)
        ],
    }


def scores(resource, table):
    rows = []
    for row in table.to_pylist():
        found = []
        for face in (face for track in row["tracks"] for face in track["faces"]):
            rng = np.random.default_rng(seed_of(face["face_id"]))
            found.append(
                {
                    "face_id": face["face_id"],
                    "mesh468": rng.random(1404).round(2).tolist(),
                    "exposure": 0.5,
                    "yaw_deg": 10.0 * len(found),
                    "pitch_deg": 0.0,
                    "roll_deg": 0.0,
                    "occlusion": 0.0,
                    "reason": "",
                    "matte": face["crop"][::-1],
                }
            )
        rows.append({"video_id": row["video_id"], "status": "ok", "reason": "", "faces": found})
    return pa.Table.from_pylist(rows, schema=SCORED)


def embeddings(resource, table):
    rows = []
    for row in table.to_pylist():
        found = []
        for face in (face for track in row["tracks"] for face in track["faces"]):
            person = np.eye(8)[int(face["crop"].decode("latin1").rsplit(" ", 2)[1])]
            vector = person + np.random.default_rng(seed_of(face["face_id"])).normal(0, 0.02, 8)
            vector = (vector / np.linalg.norm(vector)).round(5)
            found.append({"track_id": face["track_id"], "face_id": face["face_id"], "vector": vector.tolist()})
        rows.append({"video_id": row["video_id"], "status": "ok", "reason": "", "model": "toy", "faces": found})
    return pa.Table.from_pylist(rows, schema=EMBEDDED)


def load(seconds):
    return seconds


def toy_steps(seconds: float = 0.0, batch: int = 3) -> list[Step]:
    """probe, tracks (``seconds`` a video), scores, embeddings (private): pass ``AFTER`` along."""
    few, nothing = Resources(cpus=0.3, batch=batch), partial(load, 0.0)
    made = [
        ("probe", SOURCES, PROBED, probe),
        ("tracks", PROBED, TRACKED, tracks),
        ("scores", TRACKED, SCORED, scores),
        ("embeddings", TRACKED, EMBEDDED, embeddings),
    ]
    return [
        Step(
            name=name,
            version=1,
            key="video_id",
            input=given,
            output=out,
            fn=fn,
            resources=few,
            load=partial(load, seconds) if name == "tracks" else nothing,
            private=name == "embeddings",
        )
        for name, given, out, fn in made
    ]


def assign(cut: dict[str, pa.Table]) -> pa.Table:
    """Each ok track to the person that its video's URI names."""
    uri = dict(zip(*(cut["videos"][c].to_pylist() for c in ("video_id", "uri")), strict=True))
    right = {row["track_id"] for row in cut["faces"].to_pylist() if row["x0"] > 100}
    rows = [
        {
            "track_id": row["track_id"],
            "identity_id": f"person-{person_of(uri[row['video_id']], row['track_id'] in right)}",
            "cluster_version": "toy",
            "similarity": 0.9,
            "source": "clustering",
        }
        for row in cut["tracks"].to_pylist()
        if row["status"] == "ok"
    ]
    return pa.Table.from_pylist(rows, schema=ASSIGNMENTS)


def means(cut: dict[str, pa.Table]) -> pa.Table:
    """Return an embedding for each ok track, as a clustering would: that of its first face."""
    used = {row["track_id"] for row in cut["tracks"].to_pylist() if row["status"] == "ok"}
    first = {row["track_id"]: row | {"face_id": ""} for row in cut["embeddings"].to_pylist()[::-1]}
    return pa.Table.from_pylist([row for track_id, row in first.items() if track_id in used], schema=EMBEDDINGS)
