"""Compiled blender of the reference renderer: float32 on the CPU, forward and backward, by the rules of ``blending``.

Tensor operations evaluate all pairs of a pixel and a Gaussian whose box overlaps the pixel's tile. A compiled loop ends
a tile when all its pixels are opaque, and skips rows of pixels that a Gaussian's box does not cover. It saves nothing
for the backward pass, which blends again. This module divides the work among threads and connects it to autograd; the
loops are in ``kernels``. numba is imported at the first call, because the model also runs without numba.
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

JOBS = 8
"""Number of jobs among which an image's tiles are divided; it is smaller if there are many images.

It does not depend on the number of threads, so sums of gradients are the same for any number of threads.
"""


@cache
def has_numba() -> bool:
    """Return True if numba can be imported."""
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
    """Bin and blend the Gaussians of I images, as ``reference_tiles.blocks_of_tiles`` and ``blending.blend`` do.

    Gaussians of equal depth keep their order.

    Args:
        means: (I, N, 2) centres, pixels; all tensors are float32 on the CPU.
        conics: (I, N, 3) upper triangle of the inverse covariance, 1/px².
        opacities: (I, N) 0 to 1.
        features: (I, N, C) values to blend.
        radii: (I, N, 2) half extent of each Gaussian's box, pixels; 0 for Gaussians that are not drawn.
        depths: (I, N) metres; the nearest Gaussian is blended first.
        width: Width of the images, pixels.
        height: Height of the images, pixels.

    Returns:
        (I, C, height, width) blended features.
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
        lists = _run_all(lambda i: bin_tiles(shape[i], reach[i], order[i], width, height), range(n_images))
        out = np.zeros((n_images, height, width, channels), np.float32)
        n_jobs = _jobs_per_image(n_images)
        _run_all(
            lambda job: blend_tiles(job[1], n_jobs, shape[job[0]], feature[job[0]], *lists[job[0]], out[job[0]]),
            [(i, part) for i in range(n_images) for part in range(n_jobs)],
        )
        if ctx.needs_input_grad[0] or ctx.needs_input_grad[1]:
            ctx.saved = shape, feature, lists, out
        return torch.from_numpy(out)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        shape, feature, lists, out = ctx.saved
        n_images, n, channels = feature.shape
        n_jobs, blend_backward = _jobs_per_image(n_images), _kernels()[2]
        grads = grad.contiguous().numpy()
        sums = np.zeros((n_images, n_jobs, n, 6 + channels), np.float32)
        _run_all(
            lambda job: blend_backward(
                job[1], n_jobs, shape[job[0]], feature[job[0]], *lists[job[0]], out[job[0]], grads[job[0]], sums[job]
            ),
            [(i, part) for i in range(n_images) for part in range(n_jobs)],
        )
        total = torch.from_numpy(sums).sum(1)
        return total[..., :6], total[..., 6:], None, None, None, None


def _jobs_per_image(n_images: int) -> int:
    return max(1, JOBS // n_images)


def _run_all(run: Callable[[Any], Any], jobs: Iterable[Any]) -> list[Any]:
    """Return the results of ``run`` for all jobs, run by as many threads as PyTorch uses.

    Threads run in parallel because the kernels release Python's global lock.
    """
    jobs, threads = list(jobs), torch.get_num_threads()
    if threads == 1 or len(jobs) == 1:
        return [run(job) for job in jobs]
    return list(_pool(threads).map(run, jobs))


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="renderer")


@cache
def _kernels() -> tuple[Callable[..., Any], Callable[..., Any], Callable[..., Any]]:
    from ffavatar_model.renderers import kernels

    return kernels.bin_tiles, kernels.blend_tiles, kernels.blend_tiles_backward
