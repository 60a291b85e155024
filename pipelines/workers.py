"""Which steps one worker process runs, what it reserves, and how many of them there are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from pipelines.plan import BoundStep


class EngineError(RuntimeError):
    """The run could not go on (a step that does not start, a corpus out of reach): one line.

    What was committed stays, and the same call again continues.
    """


@dataclass(frozen=True)
class WorkerGroup:
    """Consecutive steps that run in one process, one after the other for each task."""

    steps: tuple[BoundStep, ...]
    cpus: float
    """What Ray reserves for one worker; below what the steps ask for where the machine has less for all groups."""
    gpus: float
    workers: int
    """Most of them at a time."""


def worker_groups(bound: Sequence[BoundStep], cluster: Mapping[str, float], n_tasks: int) -> list[WorkerGroup]:
    """Share a cluster (``ray.cluster_resources()``) out among the steps.

    Consecutive steps without a GPU share their workers: a process costs seconds to start and hundreds of megabytes,
    and whoever is free takes the next task, whichever step is the slow one. Each step with a GPU has its own.

    Raises:
        EngineError: a step needs more GPUs than there are.
    """
    cores, gpus = cluster.get("CPU", 1.0), cluster.get("GPU", 0.0)
    for b in bound:
        if b.step.resources.gpus > gpus:
            need = f"needs {b.step.resources.gpus:g} GPUs, and Ray has {gpus:g}"
            raise EngineError(f"step {b.step.name} {need}; set its device to cpu")
    runs = groupby(bound, key=lambda b: b.step.name if b.step.resources.gpus else "")
    groups = [tuple(run) for _, run in runs]
    wanted = [max(b.step.resources.cpus for b in group) for group in groups]
    scale = min(1.0, cores / max(sum(wanted), 1e-3))
    made = []
    for group, cpus in zip(groups, wanted, strict=True):
        on_gpu = group[0].step.resources.gpus
        most = int(gpus / on_gpu if on_gpu else cores / max(cpus, 1.0))
        made.append(WorkerGroup(group, int(1000 * cpus * scale) / 1000, on_gpu, max(1, min(most, n_tasks))))
    return made
