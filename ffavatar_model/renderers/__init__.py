"""Renderers of 3D Gaussians behind one function, ``render_gaussians``; all give the same images.

On CUDA, ``gsplat_cuda`` calls gsplat's kernels. ``gsplat_tile_lists`` gives them lists of a fixed size, so that calls
can be part of a CUDA graph.

On other devices, ``reference`` renders: ``projection`` in PyTorch, then one of two blenders. ``blending``, with
``reference_tiles``, is plain PyTorch for any device and floating type; the other blenders follow its rules.
``compiled`` is equivalent for float32 on the CPU and several times as fast; its loops, compiled by numba, are in
``kernels``.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ffavatar_model.renderers.gsplat_cuda import rasterize_gsplat
from ffavatar_model.renderers.reference import rasterize_reference

__all__ = ["Rendering", "rasterize_gsplat", "rasterize_reference", "render_gaussians"]


class Rendering(NamedTuple):
    """Images from V cameras of each of B sets of Gaussians."""

    rgb: Tensor
    """(B, V, C, H, W) colour over the background."""
    alpha: Tensor
    """(B, V, 1, H, W) coverage, 0 to 1."""
    depth: Tensor
    """(B, V, 1, H, W) expected z of the Gaussians at the pixel, metres; 0 if there are none."""


def render_gaussians(
    means: Tensor,
    rotations: Tensor,
    scales: Tensor,
    opacities: Tensor,
    colours: Tensor,
    world_to_camera: Tensor,
    K: Tensor,
    width: int,
    height: int,
    background: Tensor | None = None,
) -> Rendering:
    """Render B sets of N Gaussians into V cameras each, in one rasterizer call, differentiably.

    Autocast is off inside: projection and blending need float32.

    Args:
        means: (B, N, 3) centres, metres, world axes.
        rotations: (B, N, 4) quaternions w, x, y, z, of any length but 0.
        scales: (B, N, 3) standard deviations along the rotated axes, metres.
        opacities: (B, N) in 0 to 1.
        colours: (B, N, C) colours in any range.
        world_to_camera: (B, V, 3, 4) transforms, OpenCV axes (x right, y down, z forward), metres.
        K: (B, V, 3, 3) intrinsics in pixels; (0, 0) is the outer corner of the top-left pixel.
        width: Width of the images, pixels.
        height: Height of the images, pixels.
        background: (C,) or (B, V, C) colour behind everything; black by default.

    Returns:
        Images, alpha and depth.
    """
    rasterize = rasterize_gsplat if means.is_cuda else rasterize_reference
    with torch.autocast(means.device.type, enabled=False):
        if not means.is_cuda and means.dtype != torch.float64:
            means, rotations, scales, opacities, colours, world_to_camera, K = (
                value.float() for value in (means, rotations, scales, opacities, colours, world_to_camera, K)
            )
        rgb, alpha, depth = rasterize(means, rotations, scales, opacities, colours, world_to_camera, K, width, height)
        if background is not None:
            rgb = rgb + (1 - alpha) * background.to(rgb)[..., None, None]
        return Rendering(rgb, alpha, depth / alpha.clamp_min(1e-10))
