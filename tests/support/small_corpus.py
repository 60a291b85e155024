"""A small published corpus with real images, licences and consents, written by hand: what is passed on is known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from infra.storage import open_store
from mfhq.schema import TABLES, stored_schema
from pipelines.media.image_codec import encode_png, encode_webp
from pipelines.publishing.publish_tables import SnapshotRef, publish_tables

RIGHTS = {
    "va": ("CC BY 4.0", "yes"),
    "vb": ("CC0", None),
    "vc": ("CC BY-NC-ND 4.0", "yes"),
    "vd": ("CC BY 4.0", "withdrawn"),
    "ve": (None, None),
}
"""Video to licence and consent, as a source list states them."""
PEOPLE = {
    "p1": ("train", ["va", "vb"]),
    "p2": ("train", ["va", "vc"]),
    "p3": ("val", ["vb", "vd"]),
    "p4": ("test", ["ve"]),
}
"""Person to split and videos; two chosen faces in each."""
ALLOWED = {"p1": 4, "p2": 2, "p3": 2}
"""Person to number of faces that may be exported."""


def publish_small(root: Any) -> SnapshotRef:
    """Publish the corpus into a folder."""
    store, rows = open_store(root), {name: [] for name in TABLES}  # type: ignore[var-annotated]
    blob = bytearray()

    def pack(data: bytes) -> dict[str, Any]:
        blob.extend(data)
        return {"uri": "blobs/all.blobs", "offset": len(blob) - len(data), "length": len(data)}

    ok = {"status": "ok", "reason": ""}
    for video, (licence, consent) in RIGHTS.items():
        rows["videos"].append(
            {"video_id": video, "uri": f"/private/jane-doe/{video}.mp4", **ok, "codec": "h264", "duration_s": 60.0}
            | {"licence": licence, "consent": consent}
        )
        rows["shots"].append(
            {"video_id": video, "shot_index": 0, "start_frame": 0, "end_frame": 90, "transition": "none"}
        )
    for person, (split, videos) in PEOPLE.items():
        for rank_from, video in enumerate(videos):
            track = f"{person}-{video}"
            rows["tracks"].append(
                {"track_id": track, "video_id": video, "shot_index": 0, "start_frame": 0, "end_frame": 90}
                | {"n_faces": 2, **ok, "mean_width_px": 90.0, "mean_sharpness": 80.0}
            )
            rows["assignments"].append(
                {"track_id": track, "identity_id": person, "cluster_version": "c", "similarity": 0.9}
                | {"source": "clustering"}
            )
            for number in range(2):
                seed = len(rows["faces"])
                face = f"{track}-{number}"
                image = _gradient(seed)
                rows["faces"].append(
                    {"face_id": face, "track_id": track, "video_id": video, "frame_index": 9 * number, "time_s": 0.3}
                    | {"x0": 1.0, "y0": 2.0, "x1": 91.5, "y1": 120.0, "score": 0.9, **ok, "sharpness": 80.0 + seed}
                    | {"yaw_deg": 4.0 * seed - 20, "pitch_deg": 3.0, "roll_deg": 0.5, "exposure": 0.8, "occlusion": 0.1}
                    | {"landmarks5": [float(seed + i) for i in range(10)]}
                    | {"crop": pack(encode_webp(image)), "matte": pack(encode_png(image[..., 0]))}
                )
                rows["meshes"].append(
                    {"face_id": face, "track_id": track, "video_id": video, "mesh468": [float(seed)] * 1404}
                )
                rows["embeddings"].append(
                    {"track_id": track, "face_id": face, "model": "m", "vector": [float(seed), 1.0]}
                )
                rows["identity_faces"].append(
                    {"identity_id": person, "face_id": face, "rank": 2 * rank_from + number, "why": "pose"}
                )
        rows["identities"].append(
            {"identity_id": person, "n_tracks": len(videos), "n_videos": len(videos), "n_faces": 2 * len(videos)}
            | {"cohesion": 0.9, "split": split}
        )
    store.write("blobs/all.blobs", bytes(blob))
    tables = {name: pa.Table.from_pylist(found, schema=stored_schema(name)) for name, found in rows.items() if found}
    tables["faces"] = (
        tables["faces"]
        .append_column("mesh468", tables.pop("meshes")["mesh468"])
        .select([field.name for field in TABLES["faces"]])
    )
    return publish_tables(store, tables)


def _gradient(seed: int) -> np.ndarray:
    across, down = np.meshgrid(np.linspace(0, 1, 64), np.linspace(0, 1, 64))
    return np.uint8((0.4 * across + 0.6 * down)[..., None] * np.random.default_rng(seed).uniform(60, 255, 3))
