"""Job of a training worker: it opens a snapshot's data sets, runs the loop, and reports to MLflow and Ray Train.

Ray workers import this module, so it does not import Prefect.
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
from ffavatar_model.io.weights import read_header
from ffavatar_model.training import TrainConfig, train
from flows.training.run_sources import SOURCES_FILE, list_run_sources
from flows.training.stage_data import open_datasets
from infra.ray_train import QUALITY, RayWorker
from infra.storage import open_store
from infra.tracking import TrackedRun
from mfhq.catalog import Catalog
from pipelines.media.image_codec import encode_png

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Job:
    """Settings of one training run, as plain values."""

    corpus: str
    """URI of the corpus."""
    snapshot: str
    """Name of the snapshot."""
    head: str
    """Path of the head model's file, which must exist on every node."""
    config: dict[str, Any]
    """A ``TrainConfig`` as nested dictionaries."""
    identity: str
    """Id of the person, for stage personalize; empty for the other stages."""
    init: str
    """Model file whose weights training begins with; empty for random weights."""
    tracking_uri: str
    """URI of the MLflow tracking server or database."""
    run_id: str
    """Id of the MLflow run."""

    def to_values(self) -> dict[str, Any]:
        """Return the job as the plain values that are sent to workers."""
        return asdict(self)


def run_job(values: Mapping[str, Any], worker: RayWorker) -> None:
    """Train on one worker, and hand each checkpoint to Ray Train as soon as it is written.

    Args:
        values: A ``Job`` as plain values.
        worker: Ray Train as this worker sees it; it has the rank and the checkpoint to resume from, and takes reports.
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
        if run is not None:
            run.flush_metrics()


class _RayReporter:
    """Reporter that reports to Ray Train on every rank, and to MLflow on rank 0."""

    def __init__(self, worker: RayWorker, run: TrackedRun | None) -> None:
        self._worker, self._run = worker, run
        self._reported: dict[str, float] = {}

    def report(self, step: int, metrics: Mapping[str, float], checkpoint: Path | None) -> None:
        """Report metrics and a checkpoint, as a ``ffavatar_model.training.Reporter``."""
        if self._run is not None:
            self._run.log_metrics(metrics, step, wait=False)
        self._reported |= metrics
        written = checkpoint if self._worker.rank == 0 else None
        quality = read_header(written).get("quality") if written is not None else None
        ranked = {} if quality is None else {QUALITY: quality}
        self._worker.report({**self._reported, **ranked, "step": step}, checkpoint)

    def image(self, step: int, name: str, rgb: npt.NDArray[np.uint8]) -> None:
        """Store an image as an artifact of the MLflow run."""
        if self._run is not None:
            self._run.log_bytes(encode_png(rgb), f"pictures/{step:06d} {name.replace('|', '-')}.png")
