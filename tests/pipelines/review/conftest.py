"""A made-up corpus whose face images are colours, its review page, and a real browser."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from flows.corpus.serve_review import review_app
from infra.local_app import LocalServer
from infra.storage import open_store
from mfhq.ids import digest, seed_of
from mfhq.schema import TABLES
from mfhq.store import Store
from pipelines.media.image_codec import encode_webp
from pipelines.publishing.publish_tables import SnapshotRef, publish_tables
from pipelines.review.session import Review

FACES = 4
PEOPLE = {"ann": 5, "ben": 3, "cat": 2, "dan": 2, "eva": 1}
"""Tracks of each person; one of ann's has an embedding of ben's, and cat and dan are similar."""


def vector_of(person: str, track: int) -> list[float]:
    directions = {
        "ann": [1, 0, 0, 0, 0],
        "ben": [0, 1, 0, 0, 0],
        "cat": [0, 0, 1, 0.1, 0],
        "dan": [0, 0, 1, 0.9, 0],
        "eva": [0, 0, 0, 0, 1],
    }["ben" if (person, track) == ("ann", 4) else person]
    made = np.array(directions) + np.random.default_rng(seed_of(f"{person}{track}")).normal(0, 0.01, 5)
    return (made / np.linalg.norm(made)).tolist()


def face_image(seed: str) -> bytes:
    rng = np.random.default_rng(seed_of(seed))
    across, down = np.meshgrid(np.linspace(0, 1, 96), np.linspace(0, 1, 96))
    return encode_webp(np.uint8((0.4 * across + 0.6 * down)[..., None] * rng.uniform(60, 255, 3)))


def publish_people(store: Store, identity_of: dict[str, str] | None = None, aliases: Sequence[Any] = ()) -> SnapshotRef:
    """Publish ``PEOPLE``; ``identity_of`` maps a track to another identity than its name's."""
    identity_of = identity_of or {}
    ok: dict[str, Any] = {"status": "ok", "reason": ""}
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in TABLES}
    blob = b""
    for person, n_tracks in PEOPLE.items():
        for number in range(n_tracks):
            track, video = f"{person}-{number}", digest([person, number], 64)
            rows["videos"].append({"video_id": video, "uri": f"/in/<b>{track}&.mp4", **ok})
            rows["shots"].append(
                {"video_id": video, "shot_index": 0, "start_frame": 0, "end_frame": 99, "transition": "none"}
            )
            rows["tracks"].append(
                {
                    "track_id": track,
                    "video_id": video,
                    "shot_index": 0,
                    "start_frame": 5,
                    "end_frame": 90,
                    "n_faces": 18,
                    "mean_width_px": 100.0,
                    **ok,
                }
            )
            similarity = 0.3 if track == "ann-4" else 0.9
            rows["assignments"].append(
                {
                    "track_id": track,
                    "identity_id": identity_of.get(track, person),
                    "cluster_version": "c",
                    "similarity": similarity,
                    "source": "clustering",
                }
            )
            rows["embeddings"].append(
                {"track_id": track, "face_id": "", "model": "toy", "vector": vector_of(person, number)}
            )
            for face in range(FACES):
                data = face_image(f"{person}{face}")
                crop = {"uri": "blobs/0.blobs", "offset": len(blob), "length": len(data)}
                blob += data
                rows["faces"].append(
                    {
                        "face_id": f"{track}-{face}",
                        "track_id": track,
                        "video_id": video,
                        "frame_index": face * 20,
                        "x0": 0.0,
                        "x1": 100.0,
                        "score": 0.9,
                        "sharpness": 100.0 + face,
                        "crop": crop,
                        **ok,
                    }
                )
    store.write("blobs/0.blobs", blob)
    people = {row["identity_id"] for row in rows["assignments"]}
    for person in sorted(people):
        mine = [row for row in rows["assignments"] if row["identity_id"] == person]
        rows["identities"].append(
            {
                "identity_id": person,
                "n_tracks": len(mine),
                "n_videos": len(mine),
                "n_faces": 4,
                "cohesion": min(row["similarity"] for row in mine),
                "split": "train",
            }
        )
    rows["aliases"] = [
        {"identity_id": old, "now": now, "kind": "merge", "cluster_version": "c"} for old, now in aliases
    ]
    tables = {n: pa.Table.from_pylist(rows[n], schema=TABLES[n]) for n, found in rows.items() if found}
    return publish_tables(store, tables)


@pytest.fixture
def corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setattr("os.fsync", lambda descriptor: None)
    store = open_store(tmp_path / "corpus")
    publish_people(store)
    return store


@pytest.fixture
def review(corpus: Store) -> Iterator[Review]:
    opened = Review(corpus, "one", each=3)
    yield opened
    opened.close()


@pytest.fixture
def server(review: Review) -> Iterator[LocalServer]:
    with LocalServer(review_app(review)) as running:
        thread = threading.Thread(target=running.serve, daemon=True)
        thread.start()
        yield running
        running.stop()
        thread.join()


@pytest.fixture
def people_published() -> Any:
    """publish_people(store, identity_of, aliases)."""
    return publish_people
