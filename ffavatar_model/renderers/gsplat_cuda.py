"""gsplat's CUDA rasterizer behind the same function: one call for all images of a batch."""

from __future__ import annotations

import torch
from torch import Tensor

from ffavatar_model.renderers.projection import EPS_2D, NEAR_PLANE


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
