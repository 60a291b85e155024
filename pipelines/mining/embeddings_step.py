"""Step ``embeddings``: a unit vector for each candidate face. Biometric data: kept under a prefix of its own."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from mfhq.schema import OK
from pipelines.engine.step import Resources, Step
from pipelines.media.image_codec import decode_picture
from pipelines.mining.schemas import EMBEDDED, TRACKED

DECIMALS = 5
"""Of a stored vector's entries: what thread counts and batches change lies beyond."""


def embeddings_step(pack_name: str | None = None) -> Step:
    """One video's tracks in (``TRACKED``), the embeddings of their candidates out (``EMBEDDED``)."""
    from pipelines.faces.pack import face_pack

    pack = face_pack(pack_name)
    return Step(
        name="embeddings",
        version=2,
        key="video_id",
        input=TRACKED,
        output=EMBEDDED,
        load=partial(load_embedder, pack_name),
        fn=partial(embed_videos, pack.model),
        resources=Resources(cpus=1, batch=4),
        weights=pack.files,
        private=True,
    )


def load_embedder(pack_name: str | None) -> Any:
    """The pack's ``FaceAnalyzer``."""
    from pipelines.faces.analysis import FaceAnalyzer
    from pipelines.faces.pack import face_pack

    return FaceAnalyzer(face_pack(pack_name))


def embed_videos(model: str, embedder: Any, videos: pa.Table) -> pa.Table:
    """Embeddings of every candidate, read from its crop; ``embedder.embed(rgb, landmarks5)`` gives (D,) float32."""
    rows = [
        {"video_id": row["video_id"], "status": OK, "reason": "", "model": model, "faces": _embed(embedder, row)}
        for row in videos.to_pylist()
    ]
    return pa.Table.from_pylist(rows, schema=EMBEDDED)


def _embed(embedder: Any, row: dict[str, Any]) -> list[dict[str, Any]]:
    found = []
    for track in row["tracks"] or ():
        for face in track["faces"]:
            landmarks = np.asarray(face["landmarks5_crop"], np.float32).reshape(5, 2)
            vector = embedder.embed(decode_picture(face["crop"]), landmarks)
            found.append(
                {
                    "track_id": track["track_id"],
                    "face_id": face["face_id"],
                    "vector": np.round(vector, DECIMALS).astype(np.float32),
                }
            )
    return found
