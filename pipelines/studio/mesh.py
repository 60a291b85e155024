"""Triangle meshes with mesh colours, for the ray-cast renderer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

CHANNELS = 4
"""Number of colour channels: linear red, green, blue, and gloss (0 is matt, 1 is wet)."""


@dataclass(frozen=True)
class Mesh:
    """Triangle mesh with colours on a regular grid over each triangle.

    The grid is that of *mesh colours* (Yuksel, Keyser and House 2010): with order R each triangle has
    G = (R + 1)(R + 2) / 2 grid points, and colours are linear in between. If the colour is a function of position,
    neighbouring triangles agree on their common edge. There are no seams then, and no texture atlas is needed.
    """

    vertices: NDArray[np.float32]
    """(V, 3) positions, metres."""
    triangles: NDArray[np.int64]
    """(F, 3) indices of vertices, counter-clockwise seen from outside."""
    colours: NDArray[np.float32]
    """(F, G, 4) linear red, green, blue and gloss at the grid points of ``grid_barycentric(order)``."""
    order: int
    """R, the number of parts into which the grid divides an edge."""

    def posed(self, vertices: NDArray[np.floating]) -> Mesh:
        """Return the same mesh with other vertices (V, 3)."""
        return Mesh(np.asarray(vertices, np.float32), self.triangles, self.colours, self.order)


@cache
def grid_barycentric(order: int) -> NDArray[np.float32]:
    """Return the barycentric coordinates (G, 3) of a grid's points, in the order of ``grid_index``."""
    points = [(order - i - j, i, j) for i in range(order + 1) for j in range(order + 1 - i)]
    return np.array(points, np.float32) / np.float32(order)


def grid_index(i: NDArray[np.int64], j: NDArray[np.int64], order: int) -> NDArray[np.int64]:
    """Return the indices of grid points in ``grid_barycentric``.

    Args:
        i: Numbers of steps towards corner 1.
        j: Numbers of steps towards corner 2, with the shape of ``i``.
        order: Order of the grid.
    """
    return i * (order + 1) - i * (i - 1) // 2 + j


def grid_points(values: NDArray[np.floating], triangles: NDArray[np.int64], order: int) -> NDArray[np.float32]:
    """Interpolate per-vertex values at the grid points of each triangle.

    Args:
        values: (V, C) values of the vertices.
        triangles: (F, 3) indices of vertices.
        order: Order of the grid.

    Returns:
        (F, G, C) values, linear over each triangle.
    """
    return np.einsum("gk,fkc->fgc", grid_barycentric(order), values[triangles].astype(np.float32), optimize=True)


def sample_colours(
    mesh: Mesh, triangle: NDArray[np.integer], u: NDArray[np.float32], v: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return a mesh's colours at points of its triangles.

    Args:
        mesh: The mesh with its colours.
        triangle: (N,) indices of triangles.
        u: (N,) barycentric coordinates of corner 1.
        v: (N,) barycentric coordinates of corner 2; those of corner 0 are 1 - u - v.

    Returns:
        (N, 4) colours, linear between the grid points.
    """
    order = mesh.order
    x, y = np.clip(u, 0, 1) * order, np.clip(v, 0, 1) * order
    i = np.minimum(x.astype(np.int64), order - 1)
    j = np.minimum(y.astype(np.int64), order - 1 - i).clip(0)
    fx, fy = (x - i)[:, None], (y - j)[:, None]
    upper = (fx + fy > 1) & ((i + j) < order - 1)[:, None]
    near = np.where(upper, fx + fy - 1, 1 - fx - fy)
    flat, base = mesh.colours.reshape(-1, CHANNELS), triangle.astype(np.int64) * mesh.colours.shape[1]
    flip = upper[:, 0].astype(np.int64)
    corner = flat[base + grid_index(i + flip, j + flip, order)]
    along_u = flat[base + grid_index(i + 1, j, order)]
    along_v = flat[base + grid_index(i, j + 1, order)]
    return near * corner + np.where(upper, 1 - fy, fx) * along_u + np.where(upper, 1 - fx, fy) * along_v


def vertex_normals(vertices: NDArray[np.float32], triangles: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return the unit normals of vertices, the area-weighted means of the normals of their triangles.

    Args:
        vertices: (V, 3) positions.
        triangles: (F, 3) indices of vertices, counter-clockwise seen from outside.

    Returns:
        (V, 3) unit normals.
    """
    corners = vertices[triangles]
    faces = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    flat = triangles.T.reshape(-1)
    normals = np.stack(
        [np.bincount(flat, np.tile(faces[:, axis], 3), minlength=len(vertices)) for axis in range(3)], axis=1
    )
    return (normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-20)).astype(np.float32)


def merge(meshes: Sequence[Mesh]) -> Mesh:
    """Merge several meshes into one, with their vertices and triangles in order.

    Args:
        meshes: At least one mesh.

    Raises:
        ValueError: The meshes have colours of different orders.
    """
    starts = np.cumsum([0, *(len(m.vertices) for m in meshes)])
    if len({m.order for m in meshes}) != 1:
        raise ValueError(
            f"meshes of the orders {[m.order for m in meshes]} cannot be merged: build them with one order"
        )
    return Mesh(
        np.concatenate([m.vertices for m in meshes]),
        np.concatenate([m.triangles + s for m, s in zip(meshes, starts, strict=False)]),
        np.concatenate([m.colours for m in meshes]),
        meshes[0].order,
    )
