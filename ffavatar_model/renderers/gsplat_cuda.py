"""CUDA renderer: gsplat's kernels, one call for all images of a batch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor

from ffavatar_model.renderers.gsplat_tile_lists import TILE_PX, tile_lists
from ffavatar_model.renderers.projection import EPS_2D, NEAR_PLANE

_FAR_PLANE = 1e10


class FixedLists:
    """Tile lists of a fixed capacity, in entries, so that calls of the rasterizer can be part of a CUDA graph."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.crossings: list[Tensor] = []
        """Number of entries that each call needed, () int64. If it exceeds ``capacity``, Gaussians are missing."""


_FIXED: ContextVar[FixedLists | None] = ContextVar("fixed_lists", default=None)


@contextmanager
def fixed_lists(lists: FixedLists) -> Iterator[FixedLists]:
    """Let ``rasterize_gsplat`` use lists of a fixed capacity within the context; it then copies nothing to the host."""
    token = _FIXED.set(lists)
    try:
        yield lists
    finally:
        _FIXED.reset(token)


def rasterize_gsplat(
    means: Tensor,
    rotations: Tensor,
    scales: Tensor,
    opacities: Tensor,
    colours: Tensor,
    world_to_camera: Tensor,
    K: Tensor,
    width: int,
    height: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Rasterize on CUDA in float32; arguments and results are those of ``rasterize_reference``.

    gsplat's kernels are called directly, because gsplat's own function takes the host longer than its kernels take the
    device.
    """
    from gsplat.cuda import _wrapper as kernels  # its first import compiles the kernels, so it is imported only here

    n_sets, n_views = world_to_camera.shape[:2]
    columns, rows = -(-width // TILE_PX), -(-height // TILE_PX)
    last_row = torch.zeros_like(world_to_camera[..., :1, :])
    last_row[..., 3] = 1
    opacities = opacities.float()
    radii, pixels, depths, conics, _ = kernels.fully_fused_projection(
        means.float(),
        None,
        rotations.float(),
        scales.float(),
        torch.cat((world_to_camera, last_row), -2).float(),
        K.float(),
        width,
        height,
        eps2d=EPS_2D,
        near_plane=NEAR_PLANE,
        far_plane=_FAR_PLANE,
        opacities=opacities,
    )
    images = n_sets * n_views
    fixed = _FIXED.get()
    if fixed is None:
        _, crossings, members = kernels.isect_tiles(pixels, radii, depths, TILE_PX, columns, rows)
        offsets = kernels.isect_offset_encode(crossings, images, columns, rows)
    else:
        with torch.no_grad():
            lists = tile_lists(
                pixels.flatten(0, 1), radii.flatten(0, 1), depths.flatten(0, 1), width, height, fixed.capacity
            )
        fixed.crossings.append(lists.crossings)
        offsets, members = lists.offsets, lists.members
    colour = colours.float()[:, None].expand(-1, n_views, -1, -1)
    image, alpha = kernels.rasterize_to_pixels(
        pixels,
        conics,
        torch.cat((colour, depths[..., None]), -1),
        opacities[:, None].expand(-1, n_views, -1),
        width,
        height,
        TILE_PX,
        offsets.view(n_sets, n_views, rows, columns),
        members,
    )
    image, alpha = image.movedim(-1, -3), alpha.movedim(-1, -3)
    channels = colours.shape[-1]
    return image[:, :, :channels], alpha, image[:, :, channels:]
