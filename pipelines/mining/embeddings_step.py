"""Step ``embeddings``: a unit vector for each candidate face. Biometric data, stored under a separate prefix."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from mfhq.schema import OK
from pipelines.engine.step import Resources, Step
from pipelines.media.image_codec import decode_image
from pipelines.mining.config import MiningConfig
from pipelines.mining.schemas import EMBEDDED, TRACKED

DECIMALS = 5
"""Number of decimals of a stored vector's entries; thread counts and batch sizes change only further decimals."""


def embeddings_step(pack_name: str | None = None, config: MiningConfig | None = None) -> Step:
    """Return the step from tracks (``TRACKED``) to embeddings of their candidates (``EMBEDDED``).

    Args:
        pack_name: Name or folder of a face pack; None for ``embedded``, the project's own.
        config: Device of the network; by default ``MiningConfig()``.

    Raises:
        WeightsError: The pack is not available.
    """
    from pipelines.faces.pack import face_pack

    pack, config = face_pack(pack_name), config or MiningConfig()
    return Step(
        name="embeddings",
        version=2,
        key="video_id",
        input=TRACKED,
        output=EMBEDDED,
        load=partial(load_embedder, pack_name, config.device),
        fn=partial(embed_videos, pack.model),
        resources=Resources(cpus=1, gpus=config.gpus, batch=4),
        weights=pack.files,
        private=True,
    )


def load_embedder(pack_name: str | None, device: str = "cpu") -> Any:
    """Return the ``FaceAnalyzer`` of a face pack (None: ``embedded``, the project's own).

    Args:
        pack_name: Name or folder of the pack.
        device: Device of its networks, ``cpu`` or ``cuda``.
    """
    from pipelines.faces.analysis import FaceAnalyzer
    from pipelines.faces.pack import face_pack

    return FaceAnalyzer(face_pack(pack_name), device=device)


def embed_videos(model: str, embedder: Any, videos: pa.Table) -> pa.Table:
    """Embed every candidate's crop.

    Args:
        model: The name of the embedding model.
        embedder: Its ``embed(rgb, landmarks5)`` returns a unit vector (D,) float32.
        videos: ``TRACKED`` rows with crops.

    Returns:
        ``EMBEDDED`` rows.
    """
    rows = [
        {"video_id": row["video_id"], "status": OK, "reason": "", "model": model, "faces": _embed_faces(embedder, row)}
        for row in videos.to_pylist()
    ]
    return pa.Table.from_pylist(rows, schema=EMBEDDED)


def _embed_faces(embedder: Any, video: dict[str, Any]) -> list[dict[str, Any]]:
    rows = []
    for track in video["tracks"] or ():
        for face in track["faces"]:
            landmarks = np.asarray(face["landmarks5_crop"], np.float32).reshape(5, 2)
            vector = embedder.embed(decode_image(face["crop"]), landmarks)
            rows.append(
                {
                    "track_id": track["track_id"],
                    "face_id": face["face_id"],
                    "vector": np.round(vector, DECIMALS).astype(np.float32),
                }
            )
    return rows
