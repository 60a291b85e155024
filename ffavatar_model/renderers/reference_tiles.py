"""Tile lists of the plain PyTorch blender: for each tile its Gaussians in order of depth, grouped into dense blocks."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

TILE = 4
"""Pixels along a tile's edge; small tiles waste little work on Gaussians of a few pixels."""
BLOCK_ELEMENTS = 1 << 18
"""Upper bound on the number of (pixel, Gaussian) pairs of a block, so that its tensors fit in the processor's cache."""


class TileBlock(NamedTuple):
    """B tiles with about the same number of Gaussians, at most K."""

    tiles: Tensor
    """(B,) int64 numbers of the tiles: image · tiles_per_image + row · columns + column."""
    members: Tensor
    """(B, K) int64 indices into the flat list of I · N Gaussians, nearest first; the value I · N is padding."""


def blocks_of_tiles(means: Tensor, radii: Tensor, depths: Tensor, width: int, height: int) -> list[TileBlock]:
    """Bin the Gaussians of I images into tiles.

    Blocks contain no empty tiles. Gaussians of equal depth keep their order.

    Args:
        means: (I, N, 2) centres, pixels.
        radii: (I, N, 2) half extent of each Gaussian's box, pixels; 0 for Gaussians that are not drawn.
        depths: (I, N) metres.
        width: Width of the images, pixels.
        height: Height of the images, pixels.

    Returns:
        Blocks of tiles with about the same number of Gaussians.
    """
    n_images, n = depths.shape
    columns, rows = -(-width // TILE), -(-height // TILE)
    reach = radii + 1e-3
    # The first and the last pixel whose centre (at +0.5) is inside the box.
    low = torch.ceil(means - reach - 0.5).clamp_min(0)
    size = means.new_tensor((width, height))
    high = torch.minimum(torch.floor(means + reach - 0.5), size - 1)
    drawn = ((high >= low).all(-1) & (radii > 0).all(-1)).flatten()
    order = depths.flatten().argsort(stable=True)
    order = order[drawn[order]]
    low_tile = (low.flatten(0, 1)[order] / TILE).long()
    span = (high.flatten(0, 1)[order] / TILE).long() - low_tile + 1
    counts = span[:, 0] * span[:, 1]
    owner = torch.repeat_interleave(torch.arange(len(order), device=order.device), counts)
    within = torch.arange(len(owner), device=order.device) - torch.repeat_interleave(counts.cumsum(0) - counts, counts)
    wide = span[owner, 0]
    row = low_tile[owner, 1] + within // wide
    column = low_tile[owner, 0] + within % wide
    tile = (order[owner] // n * rows + row) * columns + column
    tile, by_tile = tile.to(torch.int32).sort(stable=True)
    members = order[owner[by_tile]]
    tiles, sizes = torch.unique_consecutive(tile, return_counts=True)
    return _blocks(tiles.long(), sizes, members, n_images * n)


def _blocks(tiles: Tensor, sizes: Tensor, members: Tensor, padding: int) -> list[TileBlock]:
    """Divide the tiles, ordered by number of Gaussians, into blocks; lists are padded to a block's longest list."""
    starts = sizes.cumsum(0) - sizes
    sizes, order = sizes.sort(descending=True, stable=True)
    tiles, starts = tiles[order], starts[order]
    members = torch.cat((members, members.new_tensor([padding])))
    blocks: list[TileBlock] = []
    first, ends = 0, sizes.tolist()
    while first < len(ends):
        longest = ends[first]
        limit = max(1, BLOCK_ELEMENTS // (longest * TILE * TILE))
        last = first + 1
        while last < len(ends) and last - first < limit and ends[last] * 5 >= longest * 4 - 10:
            last += 1
        slot = torch.arange(longest, device=tiles.device)
        index = torch.where(slot < sizes[first:last, None], starts[first:last, None] + slot, len(members) - 1)
        blocks.append(TileBlock(tiles[first:last], members[index]))
        first = last
    return blocks
