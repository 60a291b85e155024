"""Training jobs on Ray Train, for a training loop that does not import Ray.

The loop gets a ``RayWorker``, which has the rank, the checkpoint to resume from, and a method ``report`` for metrics
and checkpoints.
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
"""Errors of a loop that would recur after a restart, because batches and random numbers would be the same."""

QUALITY = "quality"
"""Metric that ranks the checkpoints of a job, higher is better; a checkpoint without it ranks below those with it."""

_TIMEOUT_VARIABLES = ("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", "RAY_TRAIN_WORKER_HEALTH_CHECK_TIMEOUT_S")
"""Ray Train's environment variables for the longest time until all workers are placed, and until a worker answers."""


class RayWorker:
    """Interface of one training worker to Ray Train; it works only inside the worker function."""

    def __init__(self) -> None:
        context = train.get_context()
        self.rank = context.get_world_rank()
        self.world_size = context.get_world_size()

    def resume_from(self) -> AbstractContextManager[str | None]:
        """Return a context manager for the folder of the run's last checkpoint, which is downloaded if it is remote.

        The folder is None if the run has no checkpoint yet.
        """
        checkpoint = train.get_checkpoint()
        return nullcontext(None) if checkpoint is None else checkpoint.as_directory()

    def report(self, metrics: Mapping[str, Any], checkpoint: Path | None = None) -> None:
        """Report metrics and a checkpoint to Ray Train; every rank must call this method equally often.

        Args:
            metrics: Values by name.
            checkpoint: Folder with a complete checkpoint, or None; ranks other than 0 ignore it.
        """
        stored = train.Checkpoint.from_directory(checkpoint) if checkpoint is not None and self.rank == 0 else None
        train.report(dict(metrics), checkpoint=stored)


class FinalError(RuntimeError):
    """Error of a job whose loop raised one of ``FINAL``; a restart would end with the same error."""


class _StopOnFinal(train.UserCallback):
    """Callback that ends a job after one of the errors in ``FINAL``.

    Ray Train restarts a job after every error of its loop; only an error of a callback ends the job.
    """

    def after_exception(self, run_context: Any, worker_exceptions: Mapping[int, Exception]) -> None:
        """Raise ``FinalError`` if a worker raised one of the errors in ``FINAL``."""
        for error in worker_exceptions.values():
            if isinstance(error, FINAL):
                raise FinalError(f"{type(error).__name__}: {error}")


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """Result of a training job."""

    checkpoint: train.Checkpoint
    """Last checkpoint, in the storage of the job."""
    metrics: dict[str, Any]
    """Metrics that were reported last."""

    def save(self, folder: Path) -> None:
        """Copy the checkpoint to ``folder``; an existing folder is replaced when the copy is complete."""
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
    keep: int = 1,
    timeout_s: int = TIMEOUT_S,
) -> TrainResult:
    """Run ``loop(config, worker)`` on each of ``workers`` workers, and wait until the job ends.

    Args:
        loop: A module-level function; it must report a checkpoint before it returns.
        config: Config of the loop, as plain values.
        name: Name of the job; a job of the same name in the same storage continues from that job's last checkpoint.
        storage: A path or ``s3://`` prefix that every node can read and write.
        workers: Number of workers.
        gpu: True to give each worker a GPU and use NCCL; False to use CPUs and gloo.
        cpus: CPUs per worker; None for the value of ``cpu_share``.
        max_failures: Restarts from the last checkpoint, at most. A lost worker, or an error of the loop that is not in
            ``FINAL``, restarts the job.
        keep: Number of checkpoints with the highest ``QUALITY`` that are kept, besides the newest one.
        timeout_s: Longest time in seconds that workers wait for one another in a collective operation, that a worker
            may not answer Ray, and that starting all workers in the cluster may take. Ray's own environment variables
            take precedence over the latter two.

    Returns:
        The last checkpoint, and the metrics that were reported last.

    Raises:
        FinalError: The loop raised one of ``FINAL``; the message contains that error.
        RuntimeError: The loop failed more than ``max_failures`` times, or reported no checkpoint; the message contains
            the first worker's error.
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
                controller_failure_limit=max_failures,  # type: ignore[call-arg]  # Ray Train's version 2 has it
            ),
            checkpoint_config=train.CheckpointConfig(
                num_to_keep=keep, checkpoint_score_attribute=QUALITY, checkpoint_score_order="max"
            ),
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
    """Set the environment variables of Ray Train's timeouts inside the block, unless the user has set them.

    The workers of a job that is started inside the block get them too.
    """
    ours = [name for name in _TIMEOUT_VARIABLES if name not in os.environ]
    os.environ.update(dict.fromkeys(ours, str(seconds)))
    try:
        yield
    finally:
        for name in ours:
            del os.environ[name]


def cpu_share(nodes: Sequence[float], workers: int) -> float:
    """Return the CPUs per worker: the largest whole number with which all workers fit on the nodes.

    Args:
        nodes: Number of CPUs of each node.
        workers: Number of workers.
    """
    for share in range(int(max(nodes, default=1)), 1, -1):
        if sum(int(cpus // share) for cpus in nodes) >= workers:
            return float(share)
    return 1.0


def _run_worker(arguments: dict[str, Any]) -> None:
    arguments["loop"](arguments["config"], RayWorker())


def _cause(error: BaseException) -> str:
    """Return the last line of the first worker's error, which has the message."""
    failures = getattr(error, "worker_failures", None) or {}
    first: BaseException = next(iter(failures.values()), error)
    while first.__cause__ is not None:
        first = first.__cause__
    lines = [line for line in str(first).splitlines() if line.strip()]
    return lines[-1].strip() if lines else type(first).__name__
