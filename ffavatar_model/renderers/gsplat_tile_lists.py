"""Tile lists for gsplat, by tensor operations of fixed size: the same lists as gsplat's, without a copy to the host.

gsplat reads the length of its lists from the device, so it cannot be part of a CUDA graph. Here the caller chooses the
capacity of the lists. Unused entries are before the first tile's list and belong to no tile.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

TILE_PX = 16
"""Pixels along the edge of gsplat's tiles."""


class TileLists(NamedTuple):
    """For each tile, a list of the Gaussians that touch it, nearest first."""

    offsets: Tensor
    """(I, rows, columns) int32 start of each tile's list in ``members``; it ends at the start of the next list."""
    members: Tensor
    """(capacity,) int32 indices into the flat list of I · N Gaussians."""
    crossings: Tensor
    """() int64 number of entries needed. If it exceeds the capacity, the last images lack their farthest Gaussians."""


@cache
def _bound(columns: int, rows: int, device: torch.device) -> Tensor:
    return torch.tensor((columns, rows), dtype=torch.float32, device=device)


def tile_lists(means: Tensor, radii: Tensor, depths: Tensor, width: int, height: int, capacity: int) -> TileLists:
    """Build the lists for I images of N Gaussians.

    Entries of one tile are ordered by depth, which must be positive float32.

    Args:
        means: (I, N, 2) centres, pixels.
        radii: (I, N, 2) int half extents of each Gaussian's box, pixels; a Gaussian of radius 0 touches no tile.
        depths: (I, N) metres.
        width: Width of the images, pixels.
        height: Height of the images, pixels.
        capacity: Number of entries of all lists together.

    Returns:
        Lists with ``capacity`` entries together.
    """
    n_images, n = depths.shape
    columns, rows = -(-width // TILE_PX), -(-height // TILE_PX)
    n_tiles = n_images * rows * columns
    # Sorting Gaussians by depth first lets a stable sort of the entries use the tile alone, a key of two bytes.
    nearest = _nearest_first(depths)
    means, radii = means.flatten(0, 1)[nearest], radii.flatten(0, 1)[nearest]
    bound = _bound(columns, rows, means.device)
    low = ((means - radii) / TILE_PX).floor().clamp_min(0).minimum(bound).long()
    high = ((means + radii) / TILE_PX).ceil().clamp_min(0).minimum(bound).long()
    # gsplat does not write the means of culled Gaussians, so their spans are arbitrary
    span = (high - low).masked_fill((radii <= 0).any(-1, keepdim=True), 0)
    counts = span[:, 0] * span[:, 1]
    ends = counts.cumsum(0)
    crossings = ends[-1]
    slot = torch.arange(capacity, device=means.device)
    entry = torch.searchsorted(ends, slot, right=True).clamp_max(n_images * n - 1)
    within = slot - (ends - counts)[entry]
    wide = span[entry, 0].clamp_min(1)
    row, column = low[entry, 1] + within // wide, low[entry, 0] + within % wide
    tile = (entry // n * rows + row) * columns + column
    key_type = torch.int16 if n_tiles < 1 << 15 else torch.int32
    key, order = tile.masked_fill(slot >= crossings, -1).to(key_type).sort(stable=True)  # unused entries come first
    first = torch.arange(n_tiles, dtype=key_type, device=means.device)
    offsets = torch.searchsorted(key, first, out_int32=True).view(n_images, rows, columns)
    return TileLists(offsets, nearest[entry[order]].int(), crossings)


def _nearest_first(depths: Tensor) -> Tensor:
    """Return flat indices (I · N,) of Gaussians with depths (I, N): image after image, each nearest first."""
    if len(depths) == 1:
        return depths[0].argsort(stable=True)
    image = torch.arange(len(depths), device=depths.device)[:, None]
    # The bits of positive float32 numbers have the numbers' order, so one sort of integers orders all images. Depths of
    # culled Gaussians are arbitrary; the mask keeps their bits out of the image's number.
    bits = depths.contiguous().view(torch.int32).long() & 0xFFFFFFFF
    return ((image << 32) | bits).flatten().argsort(stable=True)
