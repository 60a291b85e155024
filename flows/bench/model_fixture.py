"""Model, inputs and stopwatch that the benchmarks of the model share.

Inputs start on the host and results end there. Weights are random: they time the same as trained ones, but for the
renderer, whose speed depends on the Gaussians: those get the sizes and opacities of a trained model.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from ffavatar_model.head import HeadModel, load_head
from ffavatar_model.model import FFAvatar
from ffavatar_model.networks.estimator import DrivingParameters
from ffavatar_model.networks.gaussians import CanonicalAvatar
from ffavatar_model.precision import for_inference, mixed_precision
from ffavatar_model.presets import find_preset
from flows.avatar.heads import prepare_head_file
from flows.bench import emit
from flows.bench.synthetic_model import stand_in_head, with_trained_sizes

SECONDS = 4.0
"""Time over which each figure is measured, after a warm-up."""
STAND_IN = "stand-in"
"""Name that selects a mesh of FLAME's size in place of a head file."""

Figures = Iterator[dict[str, Any]]


def bench_device() -> torch.device:
    """Return the GPU, or the CPU of a machine without one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def bench_head(head: str | None) -> HeadModel:
    """Load a head file, ``STAND_IN`` for a mesh of FLAME's size, or None for the open head."""
    return stand_in_head() if head == STAND_IN else load_head(prepare_head_file(head))


def bench_avatar_model(size: str, mesh: HeadModel) -> FFAvatar:
    """Build a model with random weights, ready for inference.

    Args:
        size: Preset of the model.
        mesh: Head of the model.
    """
    torch.manual_seed(0)
    return for_inference(FFAvatar(find_preset(size), mesh).to(bench_device()))


def emit_figures(bench: str, size: str, mesh: HeadModel, figures: Figures) -> None:
    """Print each figure as it is measured.

    Args:
        bench: Name of the benchmark.
        size: Preset of the model.
        mesh: Head of the model.
        figures: The figures.
    """
    name = torch.cuda.get_device_name() if torch.cuda.is_available() else ""
    for figure in figures:
        emit(bench, name, model=size, head=mesh.name, **figure)


def random_photos(n: int, size: int, seed: int = 0) -> Tensor:
    """Draw (n, size, size, 3) uint8 images on the host."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (n, size, size, 3), generator=generator, dtype=torch.uint8)


def photos_to_model(model: FFAvatar, photos: Tensor) -> Tensor:
    """Move (N, H, W, 3) uint8 images to the model's device, as (N, 3, H, W) in 0 to 1."""
    return photos.to(model.rig.points.device).permute(0, 3, 1, 2).float() / 255


def random_parameters(model: FFAvatar, n: int, seed: int) -> DrivingParameters:
    """Draw driving parameters near neutral for ``n`` avatars, on the host."""
    random = torch.Generator().manual_seed(seed)
    return DrivingParameters(
        *(value.cpu() + 0.05 * torch.randn(value.shape, generator=random) for value in model.neutral_parameters(n))
    )


def random_avatars(model: FFAvatar, n: int = 1) -> CanonicalAvatar:
    """Reconstruct a random photo ``n`` times, with Gaussians of a trained model's sizes."""
    with torch.inference_mode(), mixed_precision(model.rig.points.device):
        avatar = model.reconstruct(photos_to_model(model, random_photos(1, model.config.image_size))[None])
    tensors = avatar.tensors().items()
    many = {name: value.float().expand(n, *value.shape[1:]).contiguous() for name, value in tensors}
    return with_trained_sizes(CanonicalAvatar(**many), model.rig.spacing)


def median_seconds(run: Callable[[], Any]) -> float:
    """Return the median seconds of a call, the device's work included, over ``SECONDS`` and three calls at least."""
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
