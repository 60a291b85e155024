"""A small made-up corpus: DuckDB views of every table, and images that are colour gradients."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pytest

from mfhq.schema import TABLES
from mfhq.views import DERIVED
from pipelines.media.image_codec import encode_png, encode_webp

NASTY = 'clip"><script>alert(1)</script>&.mp4'


@dataclass
class MadeCorpus:
    """Rows of each table (columns that are left out are null), and the blob file they point into."""

    rows: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    blob: bytes = b""
    reads: list[tuple[str, int, int]] = field(default_factory=list)

    def add(self, table: str, **values: Any) -> None:
        self.rows.setdefault(table, []).append(values)

    def store(self, data: bytes) -> dict[str, Any]:
        location = {"uri": "blobs/0.bin", "offset": len(self.blob), "length": len(data)}
        self.blob += data
        return location

    def read_blob(self, uri: str, offset: int, length: int) -> bytes:
        self.reads.append((uri, offset, length))
        if uri != "blobs/0.bin":
            raise FileNotFoundError(uri)
        return self.blob[offset : offset + length]

    def connect(self) -> duckdb.DuckDBPyConnection:
        connection = duckdb.connect()
        for name, schema in TABLES.items():
            rows = [{f.name: row.get(f.name) for f in schema} for row in self.rows.get(name, [])]
            connection.register(f"_{name}", pa.Table.from_pylist(rows, schema=schema))
            if name not in DERIVED:
                connection.execute(f"CREATE VIEW {name} AS FROM _{name}")
        for name, (_, query) in DERIVED.items():
            columns = ", ".join(f.name for f in TABLES[name])
            connection.execute(f"CREATE VIEW {name} AS SELECT {columns} FROM {query.format('')}")
        return connection


def gradient(seed: int) -> np.ndarray:
    across, down = np.meshgrid(np.linspace(0, 1, 160), np.linspace(0, 1, 160))
    colour = np.random.default_rng(seed).uniform(60, 255, 3)
    return np.uint8((0.4 * across + 0.6 * down)[..., None] * colour)


@pytest.fixture
def empty_corpus() -> MadeCorpus:
    return MadeCorpus()


@pytest.fixture
def corpus() -> MadeCorpus:
    """Two people in three files, a file that is no video, a blurred track, a face cut by the frame edge."""
    made = MadeCorpus()
    ok: dict[str, Any] = {"status": "ok", "reason": ""}
    for index, uri in enumerate([NASTY, "file:///in/b.mp4", "file:///in/c.mp4"]):
        made.add(
            "videos",
            video_id=f"v{index}",
            uri=uri,
            **ok,
            codec="h264",
            width=480,
            height=480,
            fps=25.0,
            duration_s=3.2,
            n_frames=80,
            n_frames_decoded=80 - 20 * (index == 2),
            licence="CC0",
        )
        made.add("shots", video_id=f"v{index}", shot_index=0, start_frame=0, end_frame=80, transition="none")
    made.add("videos", video_id="v9", uri="file:///in/text.mp4", status="rejected", reason="not_a_video")
    _track(made, "t0", "v0", ok, 8)
    _track(made, "t1", "v1", ok, 8)
    _track(made, "t2", "v2", ok, 3)
    _track(made, "t3", "v2", {"status": "rejected", "reason": "blurred"}, 2)
    made.rows["faces"][1] |= {"status": "rejected", "reason": "cut_by_border"}
    for track, person in (("t0", "p" * 32), ("t1", "p" * 32), ("t2", "q" * 32)):
        made.add(
            "assignments", track_id=track, identity_id=person, cluster_version="c", similarity=0.9, source="clustering"
        )
    made.add("identities", identity_id="p" * 32, n_tracks=2, n_videos=2, n_faces=8, cohesion=0.91, split="train")
    made.add("identities", identity_id="q" * 32, n_tracks=1, n_videos=1, n_faces=3, cohesion=0.99, split="val")
    made.add(
        "diversity",
        identity_id="p" * 32,
        n_good=15,
        n_chosen=8,
        distance=0.6,
        distance_at_random=0.5,
        nearest=0.25,
        nearest_at_random=0.1,
    )
    made.add(
        "diversity",
        identity_id="q" * 32,
        n_good=3,
        n_chosen=3,
        distance=0.3,
        distance_at_random=0.3,
        nearest=0.2,
        nearest_at_random=0.2,
    )
    for rank in range(8):
        made.add("identity_faces", identity_id="p" * 32, face_id=f"t{rank % 2}-{2 + rank // 2}", rank=rank, why="pose")
    for rank in range(3):
        made.add("identity_faces", identity_id="q" * 32, face_id=f"t2-{rank}", rank=rank, why="best")
    for stage, reason, items, share in [
        ("videos", "ok", 3, 0.75),
        ("videos", "not_a_video", 1, 0.25),
        ("tracks", "ok", 3, 0.75),
        ("tracks", "blurred", 1, 0.25),
        ("identities", "ok", 2, 1.0),
    ]:
        made.add("funnel", stage=stage, reason=reason, items=items, share=share, seconds=1.5)
    for item in range(4):
        made.add(
            "attempts",
            item_id=f"v{item}",
            step="probe",
            fingerprint="f",
            attempt=1,
            **ok,
            seconds=0.25,
            bytes=1200,
            host="h",
            run_id="r",
        )
    return made


def _track(made: MadeCorpus, track: str, video: str, status: dict[str, Any], n_faces: int) -> None:
    made.add(
        "tracks",
        track_id=track,
        video_id=video,
        shot_index=0,
        start_frame=0,
        end_frame=80,
        n_faces=n_faces,
        **status,
        mean_width_px=100.0,
        mean_sharpness=300.0,
    )
    for index in range(n_faces):
        image = gradient(sum(map(ord, track)) + index)
        made.add(
            "faces",
            face_id=f"{track}-{index}",
            track_id=track,
            video_id=video,
            frame_index=index * 10,
            time_s=index * 0.4,
            x0=10.0,
            y0=10.0,
            x1=105.0 + 12 * index,
            y1=140.0,
            score=0.9,
            yaw_deg=index * 7 - 20.0,
            pitch_deg=3.0,
            roll_deg=0.0,
            sharpness=40.0 * 2**index,
            **status,
            crop=made.store(encode_webp(image)),
            matte=made.store(encode_png(image[..., 0])),
        )
