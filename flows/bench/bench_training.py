"""Benchmarks of training on random batches: ``ffavatar bench train`` and ``ffavatar bench personalize``."""

from __future__ import annotations

import time
from dataclasses import replace

import torch
from torch import Tensor

from ffavatar_model.camera import pose_to_camera, virtual_intrinsics
from ffavatar_model.config import override
from ffavatar_model.data.batch import Batch
from ffavatar_model.head import HeadModel
from ffavatar_model.model import FFAvatar
from ffavatar_model.networks.estimator import DrivingParameters
from ffavatar_model.presets import find_preset
from ffavatar_model.training.loop import Trainer
from ffavatar_model.training.recipes import recipe
from ffavatar_model.training.workers import join_workers
from flows.bench.model_fixture import (
    Figures,
    bench_device,
    bench_head,
    emit_figures,
    random_parameters,
    random_photos,
)
from flows.bench.synthetic_model import set_trained_sizes

_WARM_UP, _STEPS = 3, 100
"""Steps before those that are timed, and steps that are timed on a GPU."""


def bench_train(size: str, head: str | None, overrides: list[str]) -> None:
    """Measure a training step of stage pretrain on random images, and print the figure.

    Under torchrun the batch is divided among its processes, and the first prints the figure.

    Args:
        size: Preset of the model.
        head: Head of the model, as ``flows.bench.model_fixture.bench_head`` takes it.
        overrides: Settings of the recipe, each written ``a.b=c``.
    """
    mesh = bench_head(head)
    rank, world, device = join_workers()
    figures = _measure_step(size, mesh, overrides, rank, world, device)
    if rank == 0:
        emit_figures("train", size, mesh, figures)
    else:
        list(figures)


def bench_personalize(size: str, head: str | None, overrides: list[str]) -> None:
    """Measure 500 steps of personalization (5 without a GPU), and print the figure.

    Args:
        size: Preset of the model.
        head: Head of the model, as ``flows.bench.model_fixture.bench_head`` takes it.
        overrides: Settings of the recipe, each written ``a.b=c``.
    """
    mesh = bench_head(head)
    emit_figures("personalize", size, mesh, _measure_personalization(size, mesh, overrides))


def _measure_step(
    size: str, mesh: HeadModel, overrides: list[str], rank: int, world: int, device: torch.device
) -> Figures:
    config = override(recipe("pretrain", size), overrides)
    trainer = Trainer(config, mesh, device, rank, world)
    n_sources, n_drivers = config.data.sources[1], config.data.drivers
    batch = _random_batch(n_sources, n_drivers, config.model.image_size, rank, config.batch // world).to(device)
    for _ in range(_WARM_UP):
        trainer.train_step(batch)
    steps = _STEPS if device.type == "cuda" else 3
    began = time.perf_counter()
    for _ in range(steps):
        trainer.launch_step(batch)
    trainer.read_metrics()
    spent = (time.perf_counter() - began) / steps
    yield {
        "workers": world,
        "people": config.batch,
        "sources": n_sources,
        "drivers": n_drivers,
        "ms": 1e3 * spent,
        "people_per_s": config.batch / spent,
        "images_per_s": config.batch * n_drivers / spent,
    }
    if world > 1:
        torch.distributed.destroy_process_group()


def _measure_personalization(size: str, mesh: HeadModel, overrides: list[str]) -> Figures:
    config = override(replace(recipe("personalize", size), model=find_preset(size)), overrides)
    device = bench_device()
    trainer = Trainer(config, mesh, device, 0, 1)
    n_drivers, px = config.data.drivers, config.model.image_size
    set_trained_sizes(trainer.model.gaussians)
    batches = [
        _with_reachable_drivers(
            trainer.model, _random_batch(config.data.sources[1], n_drivers, px, seed).to(device), seed
        )
        for seed in range(4)
    ]

    def run(steps: int) -> float:
        wait = torch.cuda.synchronize if device.type == "cuda" else (lambda: None)
        wait()
        began = time.perf_counter()
        for step in range(steps):
            trainer.launch_step(batches[step % len(batches)])
        wait()
        return time.perf_counter() - began

    first = run(3)
    steps = 500 if device.type == "cuda" else 5
    seconds = run(steps)
    yield {
        "steps": steps,
        "drivers": n_drivers,
        "size_px": px,
        "seconds": seconds,
        "ms": 1e3 * seconds / steps,
        "first_three_seconds": first,
        "moves": list(config.moves),
        "parameters": sum(p.numel() for p in trainer.parameters),
    }


@torch.no_grad()
def _with_reachable_drivers(model: FFAvatar, batch: Batch, seed: int) -> Batch:
    """Replace the driver images by images that the model can learn: renderings of its avatar, moved and darkened."""
    n, drivers = batch.drivers.shape[:2]
    drawn = [random_parameters(model, n, 100 * seed + d) for d in range(drivers)]
    parameters = DrivingParameters(*(torch.cat(values, 1).to(batch.K) for values in zip(*drawn, strict=True)))
    camera = pose_to_camera(parameters.pose, batch.K, model.config.image_size)
    rendered = model.render(model.animate(model.reconstruct(batch.sources), parameters), camera, batch.K)
    return replace(batch, drivers=(0.7 * rendered.rgb).clamp(0, 1), mattes=rendered.alpha)


def _random_batch(sources: int, drivers: int, size: int, seed: int, people: int = 1) -> Batch:
    """Draw a batch of random images of ``size`` pixels per side; the sources are the same for every ``seed``."""
    n = people * drivers

    def as_images(photos: Tensor, each: int) -> Tensor:
        return (photos.permute(0, 3, 1, 2) / 255).unflatten(0, (people, each))

    return Batch(
        sources=as_images(random_photos(people * sources, size), sources),
        source_mask=torch.ones(people, sources, dtype=torch.bool),
        drivers=as_images(random_photos(n, size, seed + 1), drivers),
        mattes=torch.ones(people, drivers, 1, size, size),
        landmarks=torch.zeros(people, drivers, 468, 2),
        has_landmarks=torch.zeros(people, drivers, dtype=torch.bool),
        K=virtual_intrinsics(size).expand(people, drivers, 3, 3),
        head_to_camera=torch.eye(3, 4).expand(people, drivers, 3, 4),
        known_camera=torch.zeros(people, drivers, dtype=torch.bool),
        timestep=torch.arange(n).view(people, drivers),
        ids=[
            [f"person {p}", *(f"source {s}" for s in range(sources)), *(f"{seed}-{d}" for d in range(drivers))]
            for p in range(people)
        ],
        known=False,
        padded=False,
    )
