"""``ffavatar bench loader``: what the training loader gives, beside what a training step takes."""

from __future__ import annotations

import contextlib
import itertools
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import psutil
import torch

from ffavatar_model.data.batch import RawBatch
from ffavatar_model.data.dataset import FewToMany
from ffavatar_model.data.prefetch import developed, loaded
from ffavatar_model.head import load_head
from ffavatar_model.training import TrainConfig, Trainer, configured
from flows.avatar.heads import head_file
from flows.bench import emit
from flows.training.stage_data import datasets
from infra.storage import open_store
from mfhq.catalog import Catalog

STEPS = 5
"""Training steps that are timed, after one that is not."""
READY = 1000
"""Batches that are asked for: more than any measurement takes."""


def bench_loader(
    corpora: Sequence[str],
    stage: str,
    size: str,
    counts: Sequence[int],
    consumes: float | None,
    seconds: float,
    overrides: Sequence[str],
    head: str | None = None,
) -> None:
    """Load batches of a stage's recipe from each corpus for ``seconds``, with each number of loader processes.

    Every picture is read and decoded anew (no cache). A core's rate counts the processor time of all processes;
    ``of_step`` is the loader's rate over ``consumes``, the pictures a second that a step takes, measured on this
    machine where it is not given; ``cores_for_twice`` is how many cores would give twice that. What a step takes is
    with the device's part of preparing its pictures, ``develop_ms``, which is done between steps.
    """
    config = configured(stage, overrides, size)
    config = replace(config, data=replace(config.data, cache=0))
    for uri in corpora:
        store = open_store(uri)
        training, _ = datasets(config, store, Catalog(store).open(), "")
        if consumes is None:
            step = _consumed(config, training, head)
            consumes = step["images_per_s"]
            emit("loader", _device(), what="step", stage=stage, model=size, people=config.batch, **step)
        for workers in counts:
            figure = _measured(config, training, workers, seconds)
            emit(
                "loader",
                what="loader",
                store=store.uri.partition(":")[0],
                stage=stage,
                model=size,
                size_px=config.model.image_size,
                workers=workers,
                **figure,
                of_step=round(figure["images_per_s"] / consumes, 3),
                cores_for_twice=round(2 * consumes / figure["images_per_core_s"], 1),
            )


def _measured(config: TrainConfig, data: FewToMany, workers: int, seconds: float) -> dict[str, Any]:
    batches = _batches(config, data, workers)
    for _ in range(1 + workers):  # processes have started, and are at work
        next(batches)
    images, before, began = 0, _cpu_seconds(), time.perf_counter()
    while time.perf_counter() - began < seconds:
        images += _images(next(batches))
    wall, cpu = time.perf_counter() - began, _cpu_seconds() - before
    return {
        "images_per_s": round(images / wall, 1),
        "images_per_core_s": round(images / cpu, 1),
        "images": images,
        "cores_busy": round(cpu / wall, 2),
    }


def _batches(config: TrainConfig, data: FewToMany, workers: int) -> Iterator[RawBatch]:
    cursors = [list(range(i * config.batch, (i + 1) * config.batch)) for i in range(READY)]
    return itertools.chain.from_iterable(loaded(data, cursors, workers) for _ in itertools.count())


def _images(batch: RawBatch) -> int:
    """Pictures that were decoded: sources, without padding, and drivers."""
    return int(batch.source_mask.sum()) + batch.moment.numel()


def _cpu_seconds() -> float:
    """Processor time of this process and of those below it."""
    here, total = psutil.Process(), 0.0
    for process in (here, *here.children(recursive=True)):
        with contextlib.suppress(psutil.Error):
            times = process.cpu_times()
            total += times.user + times.system
    return total


def _consumed(config: TrainConfig, data: FewToMany, head: str | None) -> dict[str, float]:
    """Pictures a second of training steps on batches that are loaded, and a step's milliseconds by part."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    trainer = Trainer(config, load_head(head_file(head)), device, 0, 1)

    def now() -> float:
        if device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    took, rates = [], []
    for raw in list(itertools.islice(_batches(config, data, 0), 1 + STEPS)):
        began = now()
        batch = developed(raw, config.data, device)
        ready = now()
        trainer.train_step(batch)
        done = now()
        took.append((ready - began, done - ready))
        rates.append(_images(raw) / (done - began))
    develop, step = (statistics.median(part) * 1000 for part in zip(*took[1:], strict=True))
    rate = statistics.median(rates[1:])
    return {"images_per_s": round(rate, 1), "step_ms": round(step, 2), "develop_ms": round(develop, 2)}


def _device() -> str:
    return torch.cuda.get_device_name() if torch.cuda.is_available() else ""
