"""The places on a mesh that are nearest to points."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

Floats = NDArray[np.float32]


def nearest_on_mesh(
    points: NDArray[np.floating], vertices: NDArray[np.floating], triangles: NDArray[np.int64], candidates: int = 24
) -> tuple[NDArray[np.int64], Floats]:
    """Return triangles (P,) and barycentric coordinates (P, 3) of the places on a mesh that are nearest to points.

    Args:
        points: (P, 3) points.
        vertices: (V, 3) vertices.
        triangles: (T, 3) triangles.
        candidates: Number of triangles, those with the nearest middles, among which the nearest is searched.
    """
    middles = vertices[triangles].mean(1)
    near = cKDTree(middles).query(points, k=min(candidates, len(triangles)))[1].reshape(len(points), -1)
    weights = closest_barycentric(points[:, None], vertices[triangles[near]])
    there = np.einsum("pnk,pnkc->pnc", weights, vertices[triangles[near]])
    best = np.linalg.norm(there - points[:, None], axis=2).argmin(1)
    rows = np.arange(len(points))
    return near[rows, best].astype(np.int64), weights[rows, best].astype(np.float32)


def closest_barycentric(points: NDArray[np.floating], corners: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return barycentric coordinates (..., 3) of the points of triangles that are nearest to points.

    Args:
        points: (..., 3) points.
        corners: (..., 3, 3) corners of triangles.
    """
    a, ab, ac = corners[..., 0, :], corners[..., 1, :] - corners[..., 0, :], corners[..., 2, :] - corners[..., 0, :]
    ap = points - a
    d00, d01, d11 = (ab * ab).sum(-1), (ab * ac).sum(-1), (ac * ac).sum(-1)
    d20, d21 = (ap * ab).sum(-1), (ap * ac).sum(-1)
    scale = np.maximum(d00 * d11 - d01 * d01, 1e-30)
    v, w = (d11 * d20 - d01 * d21) / scale, (d00 * d21 - d01 * d20) / scale
    inside = np.stack([1 - v - w, v, w], -1)
    along_ab, along_ac = np.clip(d20 / np.maximum(d00, 1e-30), 0, 1), np.clip(d21 / np.maximum(d11, 1e-30), 0, 1)
    along_bc = np.clip(
        ((points - corners[..., 1, :]) * (ac - ab)).sum(-1) / np.maximum(((ac - ab) ** 2).sum(-1), 1e-30), 0, 1
    )
    zero = np.zeros_like(v)
    edges = np.stack(
        [
            np.stack([1 - along_ab, along_ab, zero], -1),
            np.stack([1 - along_ac, zero, along_ac], -1),
            np.stack([zero, 1 - along_bc, along_bc], -1),
        ],
        -2,
    )
    off = np.linalg.norm(edges @ corners - points[..., None, :], axis=-1)
    edge = np.take_along_axis(edges, off.argmin(-1)[..., None, None], -2)[..., 0, :]
    return np.where((inside >= 0).all(-1, keepdims=True), inside, edge)
