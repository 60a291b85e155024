"""Tile lists for gsplat by tensor operations of fixed size: gsplat's own lists, with nothing read back to the host.

gsplat sizes its lists by a number that it reads from the device, so it cannot be part of a CUDA graph. Here the lists
have a capacity that the caller chooses. Unused slots come before the first tile's list, where no tile reads.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

TILE_PX = 16
"""Pixels along the edge of gsplat's tiles."""


class TileLists(NamedTuple):
    """Lists of the Gaussians that touch each tile, nearest first."""

    offsets: Tensor
    """(I, rows, columns) int32: begin of each tile's list, which ends at the begin of the next."""
    members: Tensor
    """(capacity,) int32 into the flat list of I · N Gaussians."""
    crossings: Tensor
    """() int64: number of entries needed. Above the capacity, lists lack the farthest Gaussians of the last images."""


@cache
def _bound(columns: int, rows: int, device: torch.device) -> Tensor:
    return torch.tensor((columns, rows), dtype=torch.float32, device=device)


def tile_lists(means: Tensor, radii: Tensor, depths: Tensor, width: int, height: int, capacity: int) -> TileLists:
    """Build the lists for I images of N Gaussians.

    Entries of one tile are ordered by depth, as float32 above zero.

    Args:
        means: (I, N, 2) pixels.
        radii: (I, N, 2) int pixels; a Gaussian of radius 0 touches no tile.
        depths: (I, N) metres.
        width: Of the images, pixels.
        height: Of the images, pixels.
        capacity: Number of entries of all lists together.

    Returns:
        Lists of fixed size.
    """
    n_images, n = depths.shape
    columns, rows = -(-width // TILE_PX), -(-height // TILE_PX)
    n_tiles = n_images * rows * columns
    # Gaussians in order of depth first, then their entries by tile alone: a stable sort of keys of two bytes.
    nearest = _nearest_first(depths)
    means, radii = means.flatten(0, 1)[nearest], radii.flatten(0, 1)[nearest]
    bound = _bound(columns, rows, means.device)
    low = ((means - radii) / TILE_PX).floor().clamp_min(0).minimum(bound).long()
    high = ((means + radii) / TILE_PX).ceil().clamp_min(0).minimum(bound).long()
    # gsplat does not write the means of culled Gaussians: their spans are arbitrary
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
    key, order = tile.masked_fill(slot >= crossings, -1).to(key_type).sort(stable=True)  # unused slots come first
    first = torch.arange(n_tiles, dtype=key_type, device=means.device)
    offsets = torch.searchsorted(key, first, out_int32=True).view(n_images, rows, columns)
    return TileLists(offsets, nearest[entry[order]].int(), crossings)


def _nearest_first(depths: Tensor) -> Tensor:
    """Return flat indices (I · N,) of Gaussians (I, N): one image after the other, each nearest first."""
    if len(depths) == 1:
        return depths[0].argsort(stable=True)
    image = torch.arange(len(depths), device=depths.device)[:, None]
    # The bits of a positive float32 are ordered as the number is: one sort for all images. Depths of culled Gaussians
    # are arbitrary; their bits must not reach into the image's number.
    bits = depths.contiguous().view(torch.int32).long() & 0xFFFFFFFF
    return ((image << 32) | bits).flatten().argsort(stable=True)
