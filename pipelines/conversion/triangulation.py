"""Triangulation of points from several calibrated cameras, and the fit of a head to these points."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from pipelines.media.cameras import Array, Camera

SOFT_PX = 2.0
"""Reprojection error at which an observation has half the weight, in pixels of a head crop that is 512 wide."""


class Triangulation(NamedTuple):
    """N triangulated points."""

    points: Array
    """(N, 3) in the world, metres; NaN for a point with fewer than two observations."""
    error_px: Array
    """(C, N) distance between each observation and the projection of its point, pixels; NaN if there is none."""


def triangulate(cameras: Sequence[Camera], pixels: Array, soft_px: float = np.inf, rounds: int = 6) -> Triangulation:
    """Triangulate points from their pixels in several cameras.

    The method is linear triangulation (Hartley and Zisserman, "Multiple View Geometry", 12.2), with equations weighted
    by the inverse focal length in the first round. Later rounds weight them by the inverse depth, so that the error is
    in pixels, and by 1 / (1 + (error / soft_px)²), so that a wrong observation counts less.

    Args:
        cameras: C calibrated cameras.
        pixels: (C, N, 2) observed pixel coordinates; NaN for a point that a camera does not observe.
        soft_px: Error at which an observation has half the weight, pixels; infinity for plain least squares.
        rounds: Number of rounds of reweighting.

    Returns:
        The points and their reprojection errors.
    """
    pixels = np.asarray(pixels, np.float64)
    observed = np.asarray(np.isfinite(pixels).all(-1))
    usable = observed.sum(0) >= 2
    projections = np.stack([c.K @ c.world_to_camera for c in cameras])
    focal = np.array([(c.K[0, 0] + c.K[1, 1]) / 2 for c in cameras])
    x = np.where(observed[..., None], pixels, 0.0)
    # Two equations per observation, x * P3 - P1 and y * P3 - P2: (C, N, 2, 4).
    equations = x[..., None] * projections[:, None, None, 2] - projections[:, None, :2]
    weights = observed / focal[:, None]
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
        error = np.where(observed & usable, np.linalg.norm(offset, axis=-1), np.nan)
        robust = 1 / (1 + (np.nan_to_num(error) / soft_px) ** 2)
        weights = observed * np.sqrt(robust) / np.maximum(np.abs(depth), 1e-6)
    return Triangulation(points, error)


class SimilarityFit(NamedTuple):
    """The fit of a known shape to points in the world."""

    head_to_world: Array
    """(3, 4) rotation and translation (metres) from the shape's frame to the world, without the scale."""
    scale: float
    """Size of the points relative to the shape."""
    residual: float
    """Median distance of the points from the fitted shape, metres."""


def fit_similarity(shape: Array, points: Array, rounds: int = 8, soft: float = 0.006) -> SimilarityFit:
    """Fit the similarity that maps the points of a shape to points in the world.

    The fit is by least squares (Umeyama 1991), reweighted by 1 / (1 + (distance / soft)²), so that a wrong point counts
    less.

    Args:
        shape: (N, 3) points of the shape, metres.
        points: (N, 3) points in the world, metres; points with NaN are ignored.
        rounds: Number of rounds of reweighting.
        soft: Distance at which a point has half the weight, metres.

    Returns:
        Pose, scale and residual of the fit.

    Raises:
        ValueError: Fewer than six points are known.
    """
    known = np.isfinite(points).all(1)
    if known.sum() < 6:
        raise ValueError(f"{int(known.sum())} points are known; 6 are needed: add cameras that show the face")
    a, b, w = shape[known], points[known], np.ones(int(known.sum()))
    turn, scale, shift, distance = np.eye(3), 1.0, np.zeros(3), np.zeros(len(w))
    for _ in range(rounds):
        mean_a, mean_b = np.average(a, axis=0, weights=w), np.average(b, axis=0, weights=w)
        da, db = a - mean_a, b - mean_b
        u, s, vt = np.linalg.svd((db * w[:, None]).T @ da)
        flip = np.array([1.0, 1.0, np.sign(np.linalg.det(u @ vt))])
        turn = u * flip @ vt
        scale = float((s * flip).sum() / (w[:, None] * da**2).sum())
        shift = mean_b - scale * turn @ mean_a
        distance = np.linalg.norm(scale * a @ turn.T + shift - b, axis=1)
        w = 1 / (1 + (distance / soft) ** 2)
    return SimilarityFit(np.column_stack([turn, shift]), scale, float(np.median(distance)))
