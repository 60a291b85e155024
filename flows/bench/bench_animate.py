"""Benchmark of the animation's frames per second (FPS) and latency: ``ffavatar bench animate``."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch

from ffavatar_model.animation.animator import Animator
from ffavatar_model.animation.graph_backend import CudaGraphBackend
from ffavatar_model.model import FFAvatar
from ffavatar_model.precision import mixed_precision
from flows.bench.model_fixture import (
    SECONDS,
    Figures,
    bench_avatar_model,
    bench_head,
    emit_figures,
    median_seconds,
    photos_to_model,
    random_avatars,
    random_parameters,
    random_photos,
)

CROWD = 64
"""Number of avatars that are animated at once in the second half of the figures."""


def bench_animate(size: str, head: str | None) -> None:
    """Measure the FPS of the animation, driven from pixels and from parameters, and print the figures.

    On a GPU the frames are CUDA graphs that are replayed, for one avatar and for ``CROWD`` avatars. On the CPU one
    avatar is rendered frame by frame.

    Args:
        size: Preset of the model.
        head: Head of the model, as ``flows.bench.model_fixture.bench_head`` takes it.
    """
    mesh = bench_head(head)
    model = bench_avatar_model(size, mesh)
    emit_figures("animate", size, mesh, _measure_cuda(model) if model.rig.points.is_cuda else _measure_cpu(model))


def _measure_cuda(model: FFAvatar) -> Figures:
    size = model.config.image_size
    for n in (1, CROWD):
        animator = Animator(model, random_avatars(model, n), size=size, backend=CudaGraphBackend)
        side = model.config.estimator.backbone.image_size
        crops = [random_photos(n, side, seed).numpy() for seed in range(8)]
        parameters = [random_parameters(model, n, seed) for seed in range(8)]
        for driven_by, submit, inputs in (
            ("pixels", animator.submit_images, crops),
            ("parameters", animator.submit_parameters, parameters),
        ):
            for in_flight in (0, 1):
                spent, latency = _measure_stream(submit, animator.collect, inputs, in_flight)
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
        if n == 1 and isinstance(animator.backend, CudaGraphBackend):
            for part, seconds in animator.backend.measure_parts().items():
                yield {"part": part, "ms": 1e3 * seconds}
    yield {"part": "pixels, mixed precision against float32", "tokens_relative_error": _estimator_error(model)}


def _measure_stream(
    submit: Callable[[Any], None], collect: Callable[[], Any], inputs: list[Any], in_flight: int
) -> tuple[float, list[float]]:
    """Measure a stream of frames.

    Args:
        submit: Function that starts a frame.
        collect: Function that waits for the oldest frame that was started.
        inputs: Inputs of the frames, used in turn.
        in_flight: Number of started frames besides the one that is being collected.

    Returns:
        Seconds per frame, and for each frame the seconds from its submission to its image.
    """
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

    run(1)  # the first frame of each kind of input captures the CUDA graph
    each = run(30)
    return run(max(100, int(SECONDS / each))), list(latency)


def _measure_cpu(model: FFAvatar) -> Figures:
    size = model.config.image_size
    animator = Animator(model, random_avatars(model), size=size)
    crops, parameters = random_photos(1, size).numpy(), animator.neutral

    def from_pixels() -> None:
        animator.submit_images(crops)
        animator.collect()

    frames: dict[str, Callable[[], object]] = {
        "pixels": from_pixels,
        "parameters": partial(animator.render, parameters),
    }
    for driven_by, frame in frames.items():
        spent = median_seconds(frame)
        yield {"driven_by": driven_by, "avatars": 1, "size_px": size, "ms": 1e3 * spent, "fps": 1 / spent}


def _estimator_error(model: FFAvatar) -> float:
    """Return the relative error of the estimator's tokens in mixed precision: norm of the error over norm of tokens."""
    crops = photos_to_model(model, random_photos(16, model.config.estimator.backbone.image_size))
    with torch.inference_mode():
        with mixed_precision(crops.device):
            low = model.estimator.backbone(crops)[0].float()
        exact = model.estimator.backbone.float()(crops)[0]
    return float((low - exact).norm() / exact.norm())
