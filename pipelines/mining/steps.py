"""Mining, from source files to scored and embedded face tracks."""

from __future__ import annotations

from typing import Any

from pipelines.engine.step import Step
from pipelines.mining.config import MiningConfig
from pipelines.mining.embeddings_step import embeddings_step
from pipelines.mining.probe_step import probe_step
from pipelines.mining.scores_step import scores_step
from pipelines.mining.tracks_step import tracks_step

AFTER = {"tracks": "probe", "scores": "tracks", "embeddings": "tracks"}
"""Which step's output each step reads; ``probe`` reads the sources."""


def mining_steps(
    config: MiningConfig | None = None, pack_name: str | None = None, filesystem: Any = None
) -> list[Step]:
    """probe, tracks, scores, embeddings, in an order in which each comes after what it reads (``AFTER``).

    ``pack_name`` is a face pack's name or folder (None: the embedded one); ``filesystem`` (fsspec, picklable) reads
    sources that are not local. Raises ``WeightsError`` where the pack cannot be had.
    """
    config = config or MiningConfig()
    return [
        probe_step(config, filesystem),
        tracks_step(config, pack_name, filesystem),
        scores_step(),
        embeddings_step(pack_name),
    ]
