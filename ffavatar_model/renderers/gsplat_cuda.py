"""gsplat's CUDA rasterizer behind the same function: one call for all images of a batch."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ffavatar_model.renderers.projection import EPS_2D, NEAR_PLANE

TILE_PX = 16
"""gsplat's tile."""
_FAR_PLANE = 1e10


def rasterize_gsplat(
    means: Tensor, rotations: Tensor, scales: Tensor, opacities: Tensor, colours: Tensor,
    world_to_camera: Tensor, K: Tensor, width: int, height: int,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """See ``ffavatar_model.renderers.render``. float32 on CUDA; returns what ``rasterize_reference`` does."""
    from gsplat import rasterization  # compiled at its first import: only where it is used

    last_row = means.new_tensor((0.0, 0.0, 0.0, 1.0)).expand(*world_to_camera.shape[:2], 1, 4)
    image, alpha, _ = rasterization(
        means.float(), rotations.float(), scales.float(), opacities.float(), colours.float(),
        torch.cat((world_to_camera.float(), last_row.float()), -2), K.float(), width, height,
        near_plane=NEAR_PLANE, eps2d=EPS_2D, packed=False, render_mode="RGB+D",
    )  # fmt: skip
    image, alpha = image.movedim(-1, -3), alpha.movedim(-1, -3)
    channels = colours.shape[-1]
    return image[:, :, :channels], alpha, image[:, :, channels:]


class Splats(NamedTuple):
    """What of B avatars' N Gaussians does not change with the pose, laid out as gsplat's kernels take it."""

    scales: Tensor
    """(B, N, 3) metres."""
    opacities: Tensor
    """(B, N)"""
    per_view: Tensor
    """(B, 1, N) the opacities once more, for one view each."""
    colours: Tensor
    """(B, 1, N, 3)"""

    @classmethod
    def of(cls, scales: Tensor, opacities: Tensor, colours: Tensor) -> Splats:
        """From scales (B, N, 3), opacities (B, N) and colours (B, N, 3)."""
        opacities = opacities.float().contiguous()
        return cls(scales.float().contiguous(), opacities, opacities[:, None], colours.float()[:, None].contiguous())


@torch.inference_mode()
def splat(
    means: Tensor, rotations: Tensor, splats: Splats, world_to_camera: Tensor, K: Tensor, width: int, height: int,
    background: Tensor,
) -> Tensor:  # fmt: skip
    """One view of each of B avatars, colour alone, no gradients: gsplat's kernels without the rest of its function.

    ``means (B, N, 3)``, ``rotations (B, N, 4)``, ``world_to_camera (B, 1, 4, 4)``, ``K (B, 1, 3, 3)``,
    ``background (B, 1, 3)``, all float32 on CUDA; returns (B, 1, height, width, 3) over the background.
    """
    from gsplat.cuda import _wrapper as kernels

    columns, rows = -(-width // TILE_PX), -(-height // TILE_PX)
    radii, pixels, depths, conics, _ = kernels.fully_fused_projection(
        means, None, rotations, splats.scales, world_to_camera, K, width, height,
        eps2d=EPS_2D, near_plane=NEAR_PLANE, far_plane=_FAR_PLANE, opacities=splats.opacities,
    )  # fmt: skip
    _, crossings, members = kernels.isect_tiles(pixels, radii, depths, TILE_PX, columns, rows)
    offsets = kernels.isect_offset_encode(crossings, len(means), columns, rows).view(len(means), 1, rows, columns)
    image, _ = kernels.rasterize_to_pixels(
        pixels, conics, splats.colours, splats.per_view, width, height, TILE_PX, offsets, members, background
    )
    return image
