"""A texture with a cell for each triangle, so that colours of a function of the position on a surface have no seams."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipelines.studio.mesh import grid_index

Floats = NDArray[np.float32]
ORDER = 6
"""Order of the grid of colours over a triangle; on the face of the open head, its points are 0.5 to 1 mm apart."""
CELL = ORDER + 2
"""Side of a cell, pixels."""
SPOT = 0.05
"""Share of the spare cell's width that is shown."""


def atlas_coordinates(count: int) -> Floats:
    """Return the texture coordinates of triangles in their atlas.

    Args:
        count: Number of triangles, T.

    Returns:
        (T + 1, 3, 2) coordinates of the corners, v down; the last entry is a spare cell, for surfaces of one colour.
    """
    side = _cells(count)
    row, column = np.divmod(np.arange(count + 1), side)
    corners = np.array([[0, 0], [ORDER, 0], [0, ORDER]]) + 0.5
    places = CELL * np.stack([column, row], 1)[:, None] + corners
    # a small spot of the spare cell, so that no reduced texture mixes it with its neighbours
    places[-1] = places[-1].mean(0) + SPOT * (places[-1] - places[-1].mean(0))
    return (places / (CELL * side)).astype(np.float32)


def pack_atlas(colours: Floats, spare: Floats) -> Floats:
    """Write the colours of triangles into their atlas.

    Args:
        colours: (T, G, C) values at the points of ``pipelines.studio.mesh.grid_barycentric`` of order ``ORDER``.
        spare: (C,) value of the spare cell, and of unused cells.

    Returns:
        (H, H, C) atlas, between whose pixels colours are linear over each triangle.
    """
    count, channels = len(colours), colours.shape[2]
    side = _cells(count)
    cells = np.broadcast_to(spare, (side * side, CELL, CELL, channels)).astype(np.float32).copy()
    for y in range(CELL):
        for x in range(CELL):
            i, j = min(x, ORDER), min(y, ORDER)
            if i + j > ORDER:  # the other half of the cell mirrors the triangle
                i, j = ORDER - j, ORDER - i
            cells[:count, y, x] = colours[:, grid_index(np.array(i), np.array(j), ORDER)]
    for x in range(1, ORDER + 1):
        y = ORDER + 1 - x
        cells[:count, y, x] = cells[:count, y - 1, x] + cells[:count, y, x - 1] - cells[:count, y - 1, x - 1]
    return cells.reshape(side, side, CELL, CELL, channels).swapaxes(1, 2).reshape(side * CELL, side * CELL, channels)


def _cells(count: int) -> int:
    """Return the number of cells along a side of the atlas, a multiple of 8 so that its mipmaps divide evenly."""
    return int(np.ceil(np.sqrt(count + 1) / 8)) * 8
