"""Points seen by several calibrated cameras, and the head's place from them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from pipelines.media.cameras import Array, Camera

SOFT_PX = 2.0
"""Pixels off from which an observation counts less, of a picture in which the head spans 512 pixels."""


class Triangulated(NamedTuple):
    """N points."""

    points: Array
    """(N, 3) in the world, metres; NaN for a point that fewer than two cameras see."""
    error_px: Array
    """(C, N) distance of each observation from the point's projection; NaN where there is none."""


def triangulate(cameras: Sequence[Camera], pixels: Array, soft_px: float = np.inf, rounds: int = 6) -> Triangulated:
    """World points of their pixels ``(C, N, 2)`` in C cameras; NaN where a camera does not see a point.

    Linear triangulation (Hartley and Zisserman, "Multiple View Geometry", 12.2) on directions and pixels made
    comparable by each camera's K, then reweighted: by depth and focal length, so that the error is in pixels, and by
    1 / (1 + (error / soft_px)²), so that a wrong observation counts less. ``soft_px`` infinite is least squares.
    """
    pixels = np.asarray(pixels, np.float64)
    seen = np.asarray(np.isfinite(pixels).all(-1))
    usable = seen.sum(0) >= 2
    projections = np.stack([c.K @ c.world_to_camera for c in cameras])
    focal = np.array([(c.K[0, 0] + c.K[1, 1]) / 2 for c in cameras])
    x = np.where(seen[..., None], pixels, 0.0)
    # Two equations an observation, x * P3 - P1 and y * P3 - P2: (C, N, 2, 4).
    equations = x[..., None] * projections[:, None, None, 2] - projections[:, None, :2]
    weights = seen / focal[:, None]
    points = np.full((pixels.shape[1], 3), np.nan)
    error = np.full(pixels.shape[:2], np.nan)
    for _ in range(rounds):
        rows = (equations * weights[..., None, None]).transpose(1, 0, 2, 3).reshape(pixels.shape[1], -1, 4)
        a, b = rows[..., :3], -rows[..., 3]
        normal = np.where(usable[:, None, None], np.einsum("nik,nil->nkl", a, a), np.eye(3))
        points[usable] = np.linalg.solve(normal, np.einsum("nik,ni->nk", a, b)[..., None])[usable, :, 0]
        projected = [c.project(np.where(usable[:, None], points, 0.0)) for c in cameras]
        depth = np.stack([z for _, z in projected])
        offset = np.stack([p for p, _ in projected]) - x
        error = np.where(seen & usable, np.linalg.norm(offset, axis=-1), np.nan)
        robust = 1 / (1 + (np.nan_to_num(error) / soft_px) ** 2)
        weights = seen * np.sqrt(robust) / np.maximum(np.abs(depth), 1e-6)
    return Triangulated(points, error)


class Placed(NamedTuple):
    """A known shape found in the world."""

    head_to_world: Array
    """(3, 4) rotation and translation: where the shape's origin lies, and how its axes stand."""
    scale: float
    """How much larger than the shape it is."""
    off: float
    """Median distance of the points from the shape, metres."""


def place(shape: Array, points: Array, rounds: int = 8, soft: float = 0.006) -> Placed:
    """The similarity that takes a shape's points (N, 3) to points (N, 3) in the world, metres.

    Least squares (Umeyama 1991), reweighted so that a point more than ``soft`` metres off counts less. Points with NaN
    are left out. Raises ``ValueError`` for fewer than six.
    """
    known = np.isfinite(points).all(1)
    if known.sum() < 6:
        raise ValueError(f"{int(known.sum())} points of the head were found by two cameras or more; 6 are needed")
    a, b, w = shape[known], points[known], np.ones(int(known.sum()))
    turn, scale, shift, off = np.eye(3), 1.0, np.zeros(3), np.zeros(len(w))
    for _ in range(rounds):
        middle_a, middle_b = np.average(a, axis=0, weights=w), np.average(b, axis=0, weights=w)
        da, db = a - middle_a, b - middle_b
        u, s, vt = np.linalg.svd((db * w[:, None]).T @ da)
        flip = np.array([1.0, 1.0, np.sign(np.linalg.det(u @ vt))])
        turn = u * flip @ vt
        scale = float((s * flip).sum() / (w[:, None] * da**2).sum())
        shift = middle_b - scale * turn @ middle_a
        off = np.linalg.norm(scale * a @ turn.T + shift - b, axis=1)
        w = 1 / (1 + (off / soft) ** 2)
    return Placed(np.column_stack([turn, shift]), scale, float(np.median(off)))
