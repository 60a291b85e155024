"""Least-squares rotations about a fixed point (Kabsch 1976), in float64 numpy, for building head models."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def fit_rotation(rest: Array, moved: Array, centre: Array, weights: Array) -> Array:
    """Fit the rotation about a fixed point that takes points to moved points, by weighted least squares.

    Args:
        rest: (N, 3) points before the motion.
        moved: (N, 3) the same points after the motion.
        centre: (3,) fixed point.
        weights: (N,) weights of the points.

    Returns:
        (3,) axis-angle vector, radians.
    """
    covariance = ((rest - centre) * weights[:, None]).T @ (moved - centre)
    left, _, right = np.linalg.svd(covariance)
    flip = np.diag([1, 1, np.sign(np.linalg.det(right.T @ left.T))])
    rotation = right.T @ flip @ left.T
    axis = np.array([rotation[2, 1] - rotation[1, 2], rotation[0, 2] - rotation[2, 0], rotation[1, 0] - rotation[0, 1]])
    sine = np.linalg.norm(axis) / 2
    angle = np.arctan2(sine, (np.trace(rotation) - 1) / 2)
    return axis * (angle / (2 * sine)) if sine > 1e-12 else np.zeros(3)


def rotate(points: Array, axis_angle: Array, centre: Array) -> Array:
    """Rotate points about a fixed point (Rodrigues' formula).

    Args:
        points: (N, 3).
        axis_angle: (3,) axis-angle vector, radians.
        centre: (3,) fixed point.

    Returns:
        (N, 3) rotated points.
    """
    angle = float(np.linalg.norm(axis_angle))
    if angle < 1e-12:
        return points.copy()
    axis, arm = axis_angle / angle, points - centre
    along = (arm @ axis)[:, None] * axis
    return centre + along + np.cos(angle) * (arm - along) + np.sin(angle) * np.cross(axis, arm)
