"""Benchmark of the training loader, compared with the rate of a training step: ``ffavatar bench loader``."""

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
from ffavatar_model.data.dataset import FewToManyDataset
from ffavatar_model.data.prefetch import load_batches, to_device_batch
from ffavatar_model.head import load_head
from ffavatar_model.training import TrainConfig, Trainer, build_config
from flows.avatar.heads import prepare_head_file
from flows.bench import emit
from flows.training.stage_data import open_datasets
from infra.storage import open_store
from mfhq.catalog import Catalog

STEPS = 5
"""Number of training steps that are timed, after a warm-up step."""
EPOCH = 1000
"""Number of batches in one pass over the loader: more than a measurement reads."""


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
    """Measure the loader on each corpus with each number of loader processes, and print the figures.

    Every image is read and decoded anew (no cache). ``images_per_core_s`` is the number of images per second of
    processor time, summed over all processes. ``of_step`` is the loader's rate divided by ``consumes``.
    ``cores_for_twice`` is the number of cores that would load twice ``consumes``. The measured rate of a training step
    includes the time in which the device prepares the images between steps, ``develop_ms``.

    Args:
        corpora: URIs of published corpora.
        stage: Stage whose recipe is used.
        size: Preset of the recipe.
        counts: Numbers of loader processes to measure.
        consumes: Images per second that training steps use; None to measure the rate on this machine.
        seconds: Length of each measurement, seconds.
        overrides: Settings of the recipe, each written ``a.b=c``.
        head: Head file of the step's model; None for the open head.
    """
    config = build_config(stage, overrides, size)
    config = replace(config, data=replace(config.data, cache=0))
    for uri in corpora:
        store = open_store(uri)
        training, _ = open_datasets(config, store, Catalog(store).open(), "")
        if consumes is None:
            step = _measure_step(config, training, head)
            consumes = step["images_per_s"]
            emit("loader", _device(), what="step", stage=stage, model=size, people=config.batch, **step)
        for workers in counts:
            figure = _measure_loader(config, training, workers, seconds)
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


def _measure_loader(config: TrainConfig, data: FewToManyDataset, workers: int, seconds: float) -> dict[str, Any]:
    batches = _batches(config, data, workers)
    for _ in range(1 + workers):  # until all processes have started
        next(batches)
    images, before, began = 0, _cpu_seconds(), time.perf_counter()
    while time.perf_counter() - began < seconds:
        images += _count_images(next(batches))
    wall, cpu = time.perf_counter() - began, _cpu_seconds() - before
    return {
        "images_per_s": round(images / wall, 1),
        "images_per_core_s": round(images / cpu, 1),
        "images": images,
        "cores_busy": round(cpu / wall, 2),
    }


def _batches(config: TrainConfig, data: FewToManyDataset, workers: int) -> Iterator[RawBatch]:
    cursors = [list(range(i * config.batch, (i + 1) * config.batch)) for i in range(EPOCH)]
    return itertools.chain.from_iterable(load_batches(data, cursors, workers) for _ in itertools.count())


def _count_images(batch: RawBatch) -> int:
    """Count the images that were decoded for a batch: drivers, and sources without padding."""
    return int(batch.source_mask.sum()) + batch.timestep.numel()


def _cpu_seconds() -> float:
    """Return the processor time of this process and of its descendants, seconds."""
    here, total = psutil.Process(), 0.0
    for process in (here, *here.children(recursive=True)):
        with contextlib.suppress(psutil.Error):
            times = process.cpu_times()
            total += times.user + times.system
    return total


def _measure_step(config: TrainConfig, data: FewToManyDataset, head: str | None) -> dict[str, float]:
    """Measure the images per second of training steps on batches in memory, and the milliseconds of a step's parts."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    trainer = Trainer(config, load_head(prepare_head_file(head)), device, 0, 1)

    def now() -> float:
        if device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    spent, rates = [], []
    for raw in list(itertools.islice(_batches(config, data, 0), 1 + STEPS)):
        began = now()
        batch = to_device_batch(raw, config.data, device)
        ready = now()
        trainer.train_step(batch)
        done = now()
        spent.append((ready - began, done - ready))
        rates.append(_count_images(raw) / (done - began))
    prepare, step = (statistics.median(part) * 1000 for part in zip(*spent[1:], strict=True))
    rate = statistics.median(rates[1:])
    return {"images_per_s": round(rate, 1), "step_ms": round(step, 2), "develop_ms": round(prepare, 2)}


def _device() -> str:
    return torch.cuda.get_device_name() if torch.cuda.is_available() else ""
