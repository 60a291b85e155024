"""Simple meshes: tubes along curves, grids of points, and fans."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Shape:
    """A mesh with texture coordinates."""

    vertices: Floats
    """(P, 3) vertices, metres."""
    triangles: NDArray[np.int32]
    """(T, 3) triangles, counter-clockwise seen from outside."""
    uv: Floats
    """(T, 3, 2) texture coordinates of the corners."""


def merge(shapes: Sequence[Shape]) -> Shape:
    """Return one mesh of several."""
    starts = np.cumsum([0, *(len(shape.vertices) for shape in shapes)])
    triangles = [shape.triangles + start for shape, start in zip(shapes, starts, strict=False)]
    return Shape(
        np.concatenate([shape.vertices for shape in shapes]),
        np.concatenate(triangles).astype(np.int32),
        np.concatenate([shape.uv for shape in shapes]),
    )


def grid(points: Array, repeats: tuple[float, float] = (1.0, 1.0)) -> Shape:
    """Return the mesh of a grid of points; its outside is where rows x columns turn counter-clockwise.

    Args:
        points: (M, N, 3) points, metres; repeat the first row or column at the end for a closed mesh.
        repeats: Number of times that the texture repeats along columns (u) and rows (v).
    """
    rows, columns = points.shape[:2]
    index = np.arange(rows * columns).reshape(rows, columns)
    a, b, c, d = index[:-1, :-1], index[:-1, 1:], index[1:, 1:], index[1:, :-1]
    triangles = np.concatenate([np.stack([a, b, c], -1).reshape(-1, 3), np.stack([a, c, d], -1).reshape(-1, 3)])
    u, v = np.meshgrid(np.linspace(0, repeats[0], columns), np.linspace(0, repeats[1], rows))
    uv = np.stack([u, v], -1).reshape(-1, 2)[triangles]
    return Shape(points.reshape(-1, 3).astype(np.float32), triangles.astype(np.int32), uv.astype(np.float32))


def tube(path: Array, radii: tuple[float, float], up: Array, closed: bool = False, sides: int = 8) -> Shape:
    """Return a tube along a path; an open one has round ends.

    Args:
        path: (N, 3) points of the middle, metres.
        radii: Radii along ``up`` and across it, metres.
        up: (3,) direction that is nowhere along the path, or (N, 3) directions.
        closed: Join the last point to the first.
        sides: Number of sides.
    """
    ahead = np.roll(path, -1, 0) - np.roll(path, 1, 0) if closed else np.gradient(path, axis=0)
    ahead /= np.linalg.norm(ahead, axis=1, keepdims=True)
    across = np.cross(ahead, np.broadcast_to(up, path.shape))
    across /= np.linalg.norm(across, axis=1, keepdims=True)
    high = np.cross(across, ahead)
    angles = np.linspace(0, 2 * np.pi, sides + 1)
    ring = radii[1] * np.cos(angles)[:, None] * across[:, None] + radii[0] * np.sin(angles)[:, None] * high[:, None]
    points = path[:, None] + ring
    if closed:
        points = np.concatenate([points, points[:1]])
    else:
        points = np.concatenate([path[:1, None].repeat(sides + 1, 1), points, path[-1:, None].repeat(sides + 1, 1)])
    return grid(points)


def fan(rim: Array, bulge: Array) -> Shape:
    """Return a disc within a closed rim (N, 3) whose middle is moved by ``bulge`` (3,), metres."""
    points = np.concatenate([rim, rim[:1]])
    middle = rim.mean(0) + bulge
    return grid(np.stack([points, 0.5 * (points + middle) + 0.25 * bulge, middle[None].repeat(len(points), 0)]))
