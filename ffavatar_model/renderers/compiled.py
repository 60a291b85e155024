"""Binning and blending as numba compiles them for the CPU: ``blending.py``'s rules, float32, forward and backward.

Tensor operations look at every pair of a pixel and a Gaussian whose box covers the pixel's tile. A compiled loop stops
a tile where none of its pixels has light left, skips rows that a Gaussian's box does not reach, and keeps nothing for
the backward pass, which blends once more. numba is imported at the first call: the model runs without it.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

PARTS = 8
"""An image's tiles are shared out to this many jobs, fewer where there are many images. Not the number of threads:
sums of gradients are then the same on any number of them."""


@cache
def is_there() -> bool:
    """Whether numba can be imported."""
    return importlib.util.find_spec("numba") is not None


def blend_compiled(
    means: Tensor,
    conics: Tensor,
    opacities: Tensor,
    features: Tensor,
    radii: Tensor,
    depths: Tensor,
    width: int,
    height: int,
) -> Tensor:
    """``blending.blend`` of I images' Gaussians, binned by ``radii (I, N, 2)`` and ordered by ``depths (I, N)``.

    ``means (I, N, 2)``, ``conics (I, N, 3)``, ``opacities (I, N)``, ``features (I, N, C)``, all float32 on the CPU;
    returns (I, C, height, width). Equal depths keep their order.
    """
    log_opacity = opacities.clamp_min(1e-12).log()[..., None]
    shapes = torch.cat((means, conics, log_opacity), -1)
    blended: Tensor = _CompiledBlend.apply(shapes, features, radii.detach(), depths.detach(), width, height)
    return blended.permute(0, 3, 1, 2)


class _CompiledBlend(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, shapes: Tensor, features: Tensor, radii: Tensor, depths: Tensor, width: int, height: int
    ) -> Tensor:
        bin_tiles, blend_tiles, _ = _kernels()
        n_images, _, channels = features.shape
        shape, feature = (value.detach().contiguous().numpy() for value in (shapes, features))
        reach, order = radii.contiguous().numpy(), depths.argsort(dim=-1, stable=True).numpy()
        lists = _each(lambda i: bin_tiles(shape[i], reach[i], order[i], width, height), range(n_images))
        out = np.zeros((n_images, height, width, channels), np.float32)
        parts = _parts(n_images)
        _each(
            lambda job: blend_tiles(job[1], parts, shape[job[0]], feature[job[0]], *lists[job[0]], out[job[0]]),
            [(i, part) for i in range(n_images) for part in range(parts)],
        )
        if ctx.needs_input_grad[0] or ctx.needs_input_grad[1]:
            ctx.kept = shape, feature, lists, out
        return torch.from_numpy(out)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        shape, feature, lists, out = ctx.kept
        n_images, n, channels = feature.shape
        parts, add = _parts(n_images), _kernels()[2]
        given = grad.contiguous().numpy()
        sums = np.zeros((n_images, parts, n, 6 + channels), np.float32)
        _each(
            lambda job: add(
                job[1], parts, shape[job[0]], feature[job[0]], *lists[job[0]], out[job[0]], given[job[0]], sums[job]
            ),
            [(i, part) for i in range(n_images) for part in range(parts)],
        )
        total = torch.from_numpy(sums).sum(1)
        return total[..., :6], total[..., 6:], None, None, None, None


def _parts(n_images: int) -> int:
    return max(1, PARTS // n_images)


def _each(do: Callable[[Any], Any], jobs: Iterable[Any]) -> list[Any]:
    """Results of ``do`` for each job, by as many threads as PyTorch uses; the kernels let go of Python's lock."""
    jobs, threads = list(jobs), torch.get_num_threads()
    if threads == 1 or len(jobs) == 1:
        return [do(job) for job in jobs]
    return list(_pool(threads).map(do, jobs))


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="renderer")


@cache
def _kernels() -> tuple[Callable[..., Any], Callable[..., Any], Callable[..., Any]]:
    from ffavatar_model.renderers import kernels

    return kernels.bin_tiles, kernels.blend_tiles, kernels.blend_tiles_backward
