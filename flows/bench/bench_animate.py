"""``ffavatar bench`` of the model: render, reconstruct, animate, personalize, train. Needs the model and its head.

Inputs start on the host and results end there. Weights are random: they time the same as trained ones, but for the
renderer, whose speed depends on the Gaussians: those get the sizes and opacities of a trained model.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ffavatar_model.animation.animator import RealTimeAnimator
from ffavatar_model.camera import pose_to_camera, virtual_intrinsics
from ffavatar_model.config import override
from ffavatar_model.data.batch import Batch
from ffavatar_model.head import HeadModel, load_head
from ffavatar_model.model import FFAvatar
from ffavatar_model.networks.estimator import DrivingParameters
from ffavatar_model.networks.gaussians import CanonicalAvatar
from ffavatar_model.precision import for_inference, mixed_precision
from ffavatar_model.presets import by_name
from ffavatar_model.training.loop import Trainer
from ffavatar_model.training.recipes import recipe
from flows.avatar.heads import head_file
from flows.bench import emit
from flows.bench.stand_in import set_trained_sizes, stand_in_head, trained_sizes

SECONDS = 4.0
"""Each figure is measured for about so long, after a warm-up."""
PHOTO_PX = 512
STAND_IN = "stand-in"
CROWD = 64
"""Avatars at once."""

Figures = Iterator[dict[str, Any]]


def bench_model(what: str, size: str, head: str | None, overrides: list[str]) -> None:
    """Measure ``what`` on a model of a preset's ``size`` and print the figures.

    ``head`` is a head file, ``stand-in`` for a mesh of FLAME's size, or None for the open head. ``overrides`` change
    the stage's settings (``personalize`` and ``train``), as in ``ffavatar train --set``.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    mesh = stand_in_head() if head == STAND_IN else load_head(head_file(head))
    name = torch.cuda.get_device_name() if device.type == "cuda" else ""
    measures: dict[str, Callable[[], Figures]] = {
        "render": lambda: _render(_model(size, mesh, device)),
        "reconstruct": lambda: _reconstruct(_model(size, mesh, device)),
        "animate": lambda: _animate(_model(size, mesh, device)),
        "personalize": lambda: _personalize(size, mesh, device, overrides),
        "train": lambda: _train(size, mesh, device, overrides),
    }
    for figure in measures[what]():
        emit(what, name, model=size, head=mesh.name, **figure)


def _model(size: str, head: HeadModel, device: torch.device) -> FFAvatar:
    torch.manual_seed(0)
    return for_inference(FFAvatar(by_name(size), head).to(device))


def _render(model: FFAvatar) -> Figures:
    with torch.inference_mode():
        posed = model.animate(_avatar(model), model.neutral())
        for size in (128, 256, 512):
            K = virtual_intrinsics(size, model.rig.points)[None, None]
            camera = pose_to_camera(model.rig.start_pose, K[0, 0], size)[None, None]
            spent = _median(partial(model.render, posed, camera, K, None, size))
            yield {"size_px": size, "gaussians": posed.means.shape[2], "ms": 1e3 * spent, "fps": 1 / spent}


def _reconstruct(model: FFAvatar) -> Figures:
    for n in (1, 4, 16):
        photos = _photos(n, PHOTO_PX)

        def run(photos: Tensor = photos) -> list[Tensor]:
            with torch.inference_mode(), mixed_precision(model.rig.points.device):
                return [value.cpu() for value in model.reconstruct(_to_model(model, photos)[None])]

        yield {"photos": n, "size_px": PHOTO_PX, "gaussians": len(model.rig.points), "ms": 1e3 * _median(run)}
    if model.rig.points.is_cuda:
        yield from _reconstruction_parts(model, _photos(4, PHOTO_PX))


def _reconstruction_parts(model: FFAvatar, photos: Tensor) -> Figures:
    """Where the time of four photos goes."""
    with torch.inference_mode(), mixed_precision(model.rig.points.device):
        sources = _to_model(model, photos)[None]
        seen, features = model.see(sources), model.features(sources)
        parts: dict[str, Callable[[], Any]] = {
            "photos to the device": partial(_to_model, model, photos),
            "encoder": lambda: model.encoder(sources[0]),
            "lifted colours (the estimator's poses)": lambda: model._lift(sources, None),
            "query former": lambda: model.features_of(seen),
            "Gaussians": lambda: model.canonical(features),
            "avatar to the host": lambda: [value.cpu() for value in model.canonical(features)],
        }
        for name, run in parts.items():
            yield {"part": name, "photos": len(photos), "ms": 1e3 * _median(run)}


def _animate(model: FFAvatar) -> Figures:
    device, size = model.rig.points.device, model.config.image_size
    if device.type != "cuda":
        yield from _animate_plainly(model)
        return
    for n in (1, CROWD):
        avatars = _avatar(model, n)
        animator = RealTimeAnimator(model, avatars, size)
        side = model.config.estimator.backbone.image_size
        crops = [_photos(n, side, seed).numpy() for seed in range(8)]
        given = [_random_parameters(model, n, seed) for seed in range(8)]
        for driven_by, submit, inputs in (
            ("pixels", animator.submit, crops),
            ("parameters", animator.submit_parameters, given),
        ):
            for in_flight in (0, 1):
                spent, latency = _stream(submit, animator.collect, inputs, in_flight)
                yield {
                    "driven_by": driven_by,
                    "avatars": n,
                    "size_px": size,
                    "in_flight": in_flight,
                    "ms": 1e3 * spent,
                    "fps": n / spent,
                    "latency_ms": 1e3 * float(np.median(latency)),
                    "latency_p99_ms": 1e3 * float(np.quantile(latency, 0.99)),
                    "frames": len(latency),
                }
        if n == 1:
            for part, seconds in animator.parts().items():
                yield {"part": part, "ms": 1e3 * seconds}
    yield {"part": "pixels, mixed precision against float32", **_estimator_error(model)}


def _stream(
    submit: Callable[[Any], None], collect: Callable[[], Any], inputs: list[Any], in_flight: int
) -> tuple[float, list[float]]:
    """Seconds a frame, and each frame's seconds from its submission to its picture, with so many others under way."""
    begun: list[float] = []
    latency: list[float] = []

    def run(n: int) -> float:
        begun.clear()
        latency.clear()
        start = time.perf_counter()
        for i in range(n + in_flight):
            if i < n:
                begun.append(time.perf_counter())
                submit(inputs[i % len(inputs)])
            if i >= in_flight:
                collect()
                latency.append(time.perf_counter() - begun[len(latency)])
        return (time.perf_counter() - start) / n

    each = run(30)
    return run(max(100, int(SECONDS / each))), list(latency)


def _animate_plainly(model: FFAvatar) -> Figures:
    size = model.config.image_size
    avatar, neutral = _avatar(model), model.neutral()
    K = virtual_intrinsics(size, model.rig.points)[None, None]
    driver = _photos(1, size)

    def show(parameters: DrivingParameters) -> np.ndarray:
        rendered = model.render(model.animate(avatar, parameters), pose_to_camera(parameters.pose, K, size), K)
        return (rendered.rgb[0, 0].permute(1, 2, 0) * 255).byte().numpy()

    with torch.inference_mode():
        ways = {
            "pixels": lambda: show(model.estimate(_to_model(model, driver)[None])),
            "parameters": lambda: show(neutral),
        }
        for driven_by, frame in ways.items():
            spent = _median(frame)
            yield {"driven_by": driven_by, "avatars": 1, "size_px": size, "ms": 1e3 * spent, "fps": 1 / spent}


def _estimator_error(model: FFAvatar) -> dict[str, float]:
    """How far mixed precision is off: the norm of the difference of the estimator's tokens, over the tokens' norm."""
    crops = _to_model(model, _photos(16, model.config.estimator.backbone.image_size))
    with torch.inference_mode():
        with mixed_precision(crops.device):
            low = model.estimator.backbone(crops)[0].float()
        exact = model.estimator.backbone.float()(crops)[0]
    return {"tokens_relative_error": float((low - exact).norm() / exact.norm())}


def _personalize(size: str, head: HeadModel, device: torch.device, overrides: list[str]) -> Figures:
    config = override(replace(recipe("personalize", size), model=by_name(size)), overrides)
    trainer = Trainer(config, head, device, 0, 1)
    n_drivers, px = config.data.drivers, config.model.image_size
    set_trained_sizes(trainer.model.gaussians)
    batches = [
        _as_rendered(trainer.model, _batch(config.data.sources[1], n_drivers, px, seed).to(device), seed)
        for seed in range(4)
    ]

    def run(steps: int) -> float:
        wait = torch.cuda.synchronize if device.type == "cuda" else (lambda: None)
        wait()
        began = time.perf_counter()
        for step in range(steps):
            trainer.take_step(batches[step % len(batches)])
        wait()
        return time.perf_counter() - began

    first = run(3)
    steps = 500 if device.type == "cuda" else 5
    seconds = run(steps)
    moved = sum(p.numel() for p in trainer.parameters)
    yield {
        "steps": steps,
        "drivers": n_drivers,
        "size_px": px,
        "seconds": seconds,
        "ms": 1e3 * seconds / steps,
        "first_three_seconds": first,
        "moves": list(config.moves),
        "parameters": moved,
    }


@torch.no_grad()
def _as_rendered(model: FFAvatar, batch: Batch, seed: int) -> Batch:
    """The batch with drivers that the model can reach: its own avatar, moved, in another light."""
    n, drivers = batch.drivers.shape[:2]
    moved = [_random_parameters(model, n, 100 * seed + d) for d in range(drivers)]
    parameters = DrivingParameters(*(torch.cat(values, 1).to(batch.K) for values in zip(*moved, strict=True)))
    camera = pose_to_camera(parameters.pose, batch.K, model.config.image_size)
    rendered = model.render(model.animate(model.reconstruct(batch.sources), parameters), camera, batch.K)
    return replace(batch, drivers=(0.7 * rendered.rgb).clamp(0, 1), mattes=rendered.alpha)


def _train(size: str, head: HeadModel, device: torch.device, overrides: list[str]) -> Figures:
    config = override(recipe("pretrain", size), overrides)
    trainer = Trainer(config, head, device, 0, 1)
    batch = _batch(config.data.sources[1], config.data.drivers, config.model.image_size, 0, config.batch).to(device)
    spent = _median(partial(trainer.train_step, batch))
    yield {
        "people": config.batch,
        "sources": config.data.sources[1],
        "drivers": config.data.drivers,
        "ms": 1e3 * spent,
        "images_per_s": config.batch * config.data.drivers / spent,
    }


def _batch(sources: int, drivers: int, size: int, seed: int, people: int = 1) -> Batch:
    """Random pictures; the same sources for every ``seed``."""
    n = people * drivers

    def shaped(tensor: Tensor) -> Tensor:
        return tensor.unflatten(0, (people, drivers))

    return Batch(
        sources=(_photos(people * sources, size).permute(0, 3, 1, 2) / 255).unflatten(0, (people, sources)),
        source_mask=torch.ones(people, sources, dtype=torch.bool),
        drivers=shaped(_photos(n, size, seed + 1).permute(0, 3, 1, 2) / 255),
        mattes=torch.ones(people, drivers, 1, size, size),
        landmarks=torch.zeros(people, drivers, 468, 2),
        has_landmarks=torch.zeros(people, drivers, dtype=torch.bool),
        K=virtual_intrinsics(size).expand(people, drivers, 3, 3),
        head_to_camera=torch.eye(3, 4).expand(people, drivers, 3, 4),
        known_camera=torch.zeros(people, drivers, dtype=torch.bool),
        moment=torch.arange(n).view(people, drivers),
        ids=[
            [f"person {p}", *(f"source {s}" for s in range(sources)), *(f"{seed}-{d}" for d in range(drivers))]
            for p in range(people)
        ],
        known=False,
        padded=False,
    )


def _avatar(model: FFAvatar, n: int = 1) -> CanonicalAvatar:
    """n avatars of a trained model's sizes."""
    with torch.inference_mode(), mixed_precision(model.rig.points.device):
        avatar = model.reconstruct(_to_model(model, _photos(1, model.config.image_size))[None])
    many = CanonicalAvatar(*(value.float().expand(n, *value.shape[1:]).contiguous() for value in avatar))
    return trained_sizes(many, model.rig.spacing)


def _photos(n: int, size: int, seed: int = 0) -> Tensor:
    """(n, size, size, 3) uint8 on the host."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (n, size, size, 3), generator=generator, dtype=torch.uint8)


def _to_model(model: FFAvatar, photos: Tensor) -> Tensor:
    """(N, H, W, 3) uint8 on the host → (N, 3, H, W) in 0 to 1 on the model's device."""
    return photos.to(model.rig.points.device).permute(0, 3, 1, 2).float() / 255


def _random_parameters(model: FFAvatar, n: int, seed: int) -> DrivingParameters:
    """On the host."""
    random = torch.Generator().manual_seed(seed)
    return DrivingParameters(
        *(value.cpu() + 0.05 * torch.randn(value.shape, generator=random) for value in model.neutral(n))
    )


def _median(run: Callable[[], Any]) -> float:
    """Median seconds of a call, the device's work included."""
    wait = torch.cuda.synchronize if torch.cuda.is_available() else (lambda: None)
    for _ in range(3 if torch.cuda.is_available() else 1):
        run()
    wait()
    times: list[float] = []
    while sum(times) < SECONDS or len(times) < 3:
        began = time.perf_counter()
        run()
        wait()
        times.append(time.perf_counter() - began)
    return statistics.median(times)
