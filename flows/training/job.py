"""The job of a training worker: data sets from a snapshot, the training loop, metrics to MLflow and Ray Train.

Imported by Ray workers, so it imports no Prefect.
"""

from __future__ import annotations

import contextlib
import logging
import os
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ffavatar_model.config import from_dict
from ffavatar_model.head import load_head
from ffavatar_model.training import TrainConfig, train
from flows.training.run_sources import SOURCES_FILE, list_run_sources
from flows.training.stage_data import open_datasets
from infra.ray_train import RayWorker
from infra.storage import open_store
from infra.tracking import TrackedRun
from mfhq.catalog import Catalog
from pipelines.media.image_codec import encode_png

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Job:
    """One training run, as plain values."""

    corpus: str
    snapshot: str
    head: str
    """The head model's file, on every node."""
    config: dict[str, Any]
    """A ``TrainConfig`` as dictionaries."""
    identity: str
    """personalize: the person; empty for the other stages."""
    init: str
    """Folder of the checkpoint to begin with; empty for none."""
    tracking_uri: str
    run_id: str

    def to_values(self) -> dict[str, Any]:
        """Return the job as the plain values that are sent to workers."""
        return asdict(self)


def run_job(values: Mapping[str, Any], worker: RayWorker) -> None:
    """Train on one worker; the loop's checkpoints go to Ray Train as they are written.

    Args:
        values: A ``Job`` as plain values.
        worker: This worker's rank, the checkpoint to resume from, and where reports go.
    """
    job = Job(**values)
    config = from_dict(TrainConfig, job.config)
    torch.set_num_threads(max(1, int(os.environ.get("OMP_NUM_THREADS", "0")) or torch.get_num_threads()))
    store = open_store(job.corpus)
    snapshot = Catalog(store).open(job.snapshot)
    training, validation = open_datasets(config, store, snapshot, job.identity)
    run = TrackedRun(job.tracking_uri, job.run_id) if worker.rank == 0 else None
    if run is not None:
        run.log_table(list_run_sources(snapshot, training, validation), SOURCES_FILE)
    reporter = _RayReporter(worker, run)
    with (
        tempfile.TemporaryDirectory(prefix="ffavatar-train-") as folder,
        worker.resume_from() as resume,
        run.log_system_metrics() if run else contextlib.nullcontext(),
    ):
        outcome = train(
            config,
            load_head(Path(job.head)),
            training,
            validation,
            reporter,
            Path(folder),
            init=Path(job.init) if job.init else None,
            resume=Path(resume) if resume else None,
            rank=worker.rank,
            world=worker.world_size,
        )
        reporter.report(outcome.step, outcome.metrics, outcome.checkpoint)


class _RayReporter:
    """A reporter to Ray Train from every rank, and to MLflow from rank 0."""

    def __init__(self, worker: RayWorker, run: TrackedRun | None) -> None:
        self._worker, self._run = worker, run
        self._reported: dict[str, float] = {}

    def report(self, step: int, metrics: Mapping[str, float], checkpoint: Path | None) -> None:
        """Report metrics: see ``ffavatar_model.training.Reporter``."""
        if self._run is not None:
            self._run.log_metrics(metrics, step)
        self._reported |= metrics
        self._worker.report({**self._reported, "step": step}, checkpoint)

    def image(self, step: int, name: str, rgb: npt.NDArray[np.uint8]) -> None:
        """Store an image with the MLflow run."""
        if self._run is not None:
            self._run.log_bytes(encode_png(rgb), f"pictures/{step:06d} {name.replace('|', '-')}.png")
