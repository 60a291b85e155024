"""Training jobs on Ray Train, around a loop that knows nothing of Ray.

The loop gets a ``RayWorker``: its rank, the checkpoint to resume from, and ``report`` for metrics and checkpoints.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray import train
from ray.train.torch import TorchConfig, TorchTrainer

from infra.settings import MAX_FAILURES, TIMEOUT_S

FINAL = (FloatingPointError,)
"""Errors of a loop that would come again from the same checkpoint: batches and random numbers are the same."""

_TIMEOUT_VARIABLES = ("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", "RAY_TRAIN_WORKER_HEALTH_CHECK_TIMEOUT_S")
"""Variables that Ray Train reads: seconds until all workers are placed, and until one of them answers."""


class RayWorker:
    """Ray Train as one training worker sees it; valid inside the worker function alone."""

    def __init__(self) -> None:
        context = train.get_context()
        self.rank = context.get_world_rank()
        self.world_size = context.get_world_size()

    def resume_from(self) -> AbstractContextManager[str | None]:
        """Return a context with the folder of the run's last checkpoint, fetched if remote; None at a first start."""
        checkpoint = train.get_checkpoint()
        return nullcontext(None) if checkpoint is None else checkpoint.as_directory()

    def report(self, metrics: Mapping[str, Any], checkpoint: Path | None = None) -> None:
        """Hand metrics and a checkpoint to Ray Train; every rank must call it equally often.

        Args:
            metrics: Values by name.
            checkpoint: Folder that holds a complete checkpoint; used on rank 0 alone.
        """
        stored = train.Checkpoint.from_directory(checkpoint) if checkpoint is not None and self.rank == 0 else None
        train.report(dict(metrics), checkpoint=stored)


class FinalError(RuntimeError):
    """Error of a job whose loop raised one of ``FINAL``: a restart would end the same way."""


class _StopOnFinal(train.UserCallback):
    """Callback that ends a job after a final error.

    Ray Train restarts a job after any error of its loop; only an error of a callback ends it.
    """

    def after_exception(self, run_context: Any, worker_exceptions: Mapping[int, Exception]) -> None:
        """Raise ``FinalError`` if one of the errors is final."""
        for error in worker_exceptions.values():
            if isinstance(error, FINAL):
                raise FinalError(f"{type(error).__name__}: {error}")


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """Result of a job."""

    checkpoint: train.Checkpoint
    """Last checkpoint, in the job's storage."""
    metrics: dict[str, Any]
    """Metrics that were reported last."""

    def save(self, folder: Path) -> None:
        """Copy the checkpoint into ``folder``; one that is there is replaced once the new one is complete."""
        partial, old = folder.with_name(f".{folder.name}.part"), folder.with_name(f".{folder.name}.old")
        for remnant in (partial, old):
            shutil.rmtree(remnant, ignore_errors=True)
        partial.parent.mkdir(parents=True, exist_ok=True)
        with self.checkpoint.as_directory() as source:
            shutil.copytree(source, partial)
        if folder.exists():
            folder.replace(old)
        partial.replace(folder)
        shutil.rmtree(old, ignore_errors=True)


def run_training_job(
    loop: Callable[[Mapping[str, Any], RayWorker], None],
    config: Mapping[str, Any],
    *,
    name: str,
    storage: str,
    workers: int = 1,
    gpu: bool = False,
    cpus: float | None = None,
    max_failures: int = MAX_FAILURES,
    keep: int = 2,
    timeout_s: int = TIMEOUT_S,
) -> TrainResult:
    """Run ``loop(config, worker)`` on each of ``workers`` workers and wait for the end.

    Args:
        loop: A module-level function; it must report a checkpoint before it returns.
        config: Argument of the loop, as plain values.
        name: Name of the job; the same name at the same storage goes on from that job's last checkpoint.
        storage: A path or ``s3://`` prefix that every node reaches.
        workers: Number of workers.
        gpu: Whether each worker gets a GPU, with NCCL between them; gloo otherwise.
        cpus: CPUs of each worker; by default ``cpu_share``.
        max_failures: How often a lost worker, or an error in the loop that is none of ``FINAL``, restarts it from the
            last checkpoint.
        keep: How many checkpoints stay.
        timeout_s: Seconds that workers wait for one another in a collective, that one of them may leave Ray without
            an answer, and that all of them may take to find a place in the cluster. Ray's own variables win where
            they are set.

    Returns:
        The last checkpoint and the metrics that were reported last.

    Raises:
        FinalError: The loop raised one of ``FINAL``; the message has it.
        RuntimeError: The loop failed more than ``max_failures`` times; the message has the first worker's error.
    """
    share = cpus or cpu_share([node["Resources"].get("CPU", 0) for node in ray.nodes() if node["Alive"]], workers)
    trainer = TorchTrainer(
        _run_worker,
        train_loop_config={"loop": loop, "config": dict(config)},
        torch_config=TorchConfig(backend="nccl" if gpu else "gloo", timeout_s=timeout_s),
        scaling_config=train.ScalingConfig(
            num_workers=workers, use_gpu=gpu, resources_per_worker={"CPU": share} | ({"GPU": 1} if gpu else {})
        ),
        run_config=train.RunConfig(
            name=name,
            storage_path=storage,
            failure_config=train.FailureConfig(
                max_failures=max_failures,
                controller_failure_limit=max_failures,  # type: ignore[call-arg]  # known to version 2, which runs
            ),
            checkpoint_config=train.CheckpointConfig(num_to_keep=keep),
            callbacks=[_StopOnFinal()],  # type: ignore[list-item]  # likewise
        ),
    )
    try:
        with _timeout_variables(timeout_s):
            result = trainer.fit()
    except train.TrainingFailedError as error:
        final = isinstance(getattr(error, "controller_failure", None), FinalError)
        raise (FinalError if final else RuntimeError)(f"training job {name} failed: {_cause(error)}") from error
    if result.checkpoint is None:
        raise RuntimeError(f"training job {name} ended without a checkpoint: its loop must report one at its end")
    return TrainResult(checkpoint=result.checkpoint, metrics=dict(result.metrics or {}))


@contextmanager
def _timeout_variables(seconds: int) -> Iterator[None]:
    """Set Ray Train's own timeouts, unless the user did, for a job that is started inside; its workers get them too."""
    ours = [name for name in _TIMEOUT_VARIABLES if name not in os.environ]
    os.environ.update(dict.fromkeys(ours, str(seconds)))
    try:
        yield
    finally:
        for name in ours:
            del os.environ[name]


def cpu_share(nodes: Sequence[float], workers: int) -> float:
    """Return the CPUs of each worker: the largest whole number with which all of them fit on the nodes.

    Args:
        nodes: CPUs of each node.
        workers: Number of workers.
    """
    for share in range(int(max(nodes, default=1)), 1, -1):
        if sum(int(cpus // share) for cpus in nodes) >= workers:
            return float(share)
    return 1.0


def _run_worker(arguments: dict[str, Any]) -> None:
    arguments["loop"](arguments["config"], RayWorker())


def _cause(error: BaseException) -> str:
    """Return the last line of the first worker's error, which names what went wrong."""
    failures = getattr(error, "worker_failures", None) or {}
    first: BaseException = next(iter(failures.values()), error)
    while first.__cause__ is not None:
        first = first.__cause__
    lines = [line for line in str(first).splitlines() if line.strip()]
    return lines[-1].strip() if lines else type(first).__name__
