"""Ray Train around a loop that knows nothing of Ray.

The loop gets a ``RayWorker``: its rank, where to resume, and a ``report`` that hands metrics and checkpoints on.
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

_WAITS = ("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", "RAY_TRAIN_WORKER_HEALTH_CHECK_TIMEOUT_S")
"""What Ray Train reads: how long workers may take to be placed, and one of them to answer."""


class RayWorker:
    """What one training worker sees of Ray Train. Valid inside the worker function alone."""

    def __init__(self) -> None:
        context = train.get_context()
        self.rank = context.get_world_rank()
        self.world_size = context.get_world_size()

    def resume_from(self) -> AbstractContextManager[str | None]:
        """A context with the folder of the run's last checkpoint, fetched where it is remote; None at a first start."""
        checkpoint = train.get_checkpoint()
        return nullcontext(None) if checkpoint is None else checkpoint.as_directory()

    def report(self, metrics: Mapping[str, Any], checkpoint: Path | None = None) -> None:
        """Hand metrics, and a folder that holds a whole checkpoint, to Ray Train. Every rank calls it equally often.

        ``checkpoint`` is given by rank 0 alone.
        """
        kept = train.Checkpoint.from_directory(checkpoint) if checkpoint is not None and self.rank == 0 else None
        train.report(dict(metrics), checkpoint=kept)


class FinalError(RuntimeError):
    """A job's loop raised one of ``FINAL``: beginning it again would end the same way."""


class _StopOnFinal(train.UserCallback):
    """Ray Train begins a job again after any error of its loop, and knows no kind that it should not; an error of a
    callback ends the job."""

    def after_exception(self, run_context: Any, worker_exceptions: Mapping[int, Exception]) -> None:
        """Raise where one of the errors is final."""
        for error in worker_exceptions.values():
            if isinstance(error, FINAL):
                raise FinalError(f"{type(error).__name__}: {error}")


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """How a job ended."""

    checkpoint: train.Checkpoint
    """The last checkpoint kept, where the job's storage is."""
    metrics: dict[str, Any]
    """What was reported last."""

    def save(self, folder: Path) -> None:
        """Copy the checkpoint into ``folder``; one that stands there is replaced when the new one is whole."""
        part, old = folder.with_name(f".{folder.name}.part"), folder.with_name(f".{folder.name}.old")
        for left in (part, old):
            shutil.rmtree(left, ignore_errors=True)
        part.parent.mkdir(parents=True, exist_ok=True)
        with self.checkpoint.as_directory() as source:
            shutil.copytree(source, part)
        if folder.exists():
            folder.replace(old)
        part.replace(folder)
        shutil.rmtree(old, ignore_errors=True)


def fit(
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
    """Run ``loop(config, worker)`` on each of ``workers`` workers and wait.

    Args:
        loop: a module-level function; it must report a checkpoint before it returns.
        name: of the job; the same name at the same storage goes on from that job's last checkpoint.
        storage: a path or ``s3://`` prefix that every node reaches.
        cpus: of each worker; by default ``cpu_share``.
        max_failures: how often a lost worker, or an error in the loop that is none of ``FINAL``, restarts it from the
            last checkpoint.
        keep: how many checkpoints stay.
        timeout_s: how long workers wait for one another in a collective, one of them may leave Ray without an answer,
            and all of them may take to find a place in the cluster. Ray's own variables win where they are set.

    Raises:
        FinalError: the loop raised one of ``FINAL``; the message has it.
        RuntimeError: the loop failed more than ``max_failures`` times; the message has the first worker's error.
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
        with _waiting(timeout_s):
            result = trainer.fit()
    except train.TrainingFailedError as error:
        final = isinstance(getattr(error, "controller_failure", None), FinalError)
        raise (FinalError if final else RuntimeError)(f"training job {name} failed: {_cause(error)}") from error
    if result.checkpoint is None:
        raise RuntimeError(f"training job {name} ended without a checkpoint: its loop must report one at its end")
    return TrainResult(checkpoint=result.checkpoint, metrics=dict(result.metrics or {}))


@contextmanager
def _waiting(seconds: int) -> Iterator[None]:
    """Ray Train's own time-outs, for what is started inside; it hands them on to its workers."""
    ours = [name for name in _WAITS if name not in os.environ]
    os.environ.update(dict.fromkeys(ours, str(seconds)))
    try:
        yield
    finally:
        for name in ours:
            del os.environ[name]


def cpu_share(nodes: Sequence[float], workers: int) -> float:
    """CPUs of each worker: as many as let all of them fit, whole ones, and never more than one node has."""
    for share in range(int(max(nodes, default=1)), 1, -1):
        if sum(int(cpus // share) for cpus in nodes) >= workers:
            return float(share)
    return 1.0


def _run_worker(arguments: dict[str, Any]) -> None:
    arguments["loop"](arguments["config"], RayWorker())


def _cause(error: BaseException) -> str:
    """The last line of the first worker's error, which names what went wrong."""
    failures = getattr(error, "worker_failures", None) or {}
    first: BaseException = next(iter(failures.values()), error)
    while first.__cause__ is not None:
        first = first.__cause__
    lines = [line for line in str(first).splitlines() if line.strip()]
    return lines[-1].strip() if lines else type(first).__name__
