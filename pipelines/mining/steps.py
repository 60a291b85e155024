"""The mining steps, from source files to scored and embedded face tracks."""

from __future__ import annotations

from typing import Any

from pipelines.engine.step import Step
from pipelines.mining.config import MiningConfig
from pipelines.mining.embeddings_step import embeddings_step
from pipelines.mining.probe_step import probe_step
from pipelines.mining.scores_step import scores_step
from pipelines.mining.tracks_step import tracks_step

AFTER = {"tracks": "probe", "scores": "tracks", "embeddings": "tracks"}
"""Step name to the step whose output it reads; ``probe`` reads the sources."""


def mining_steps(
    config: MiningConfig | None = None, pack_name: str | None = None, filesystem: Any = None
) -> list[Step]:
    """Return the steps probe, tracks, scores and embeddings, each after the step that it reads (``AFTER``).

    Args:
        config: Settings; by default ``MiningConfig()``.
        pack_name: Name or folder of a face pack; None for ``embedded``, the project's own.
        filesystem: fsspec, for sources that are not local; must be picklable.

    Raises:
        WeightsError: The pack is not available.
    """
    config = config or MiningConfig()
    return [
        probe_step(config, filesystem),
        tracks_step(config, pack_name, filesystem),
        scores_step(),
        embeddings_step(pack_name, config),
    ]
