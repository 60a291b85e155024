"""Shoulders that stay behind when the head turns, and the way from the head's frame to the world."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

Floats = NDArray[np.float32]
PIVOT = np.array([0.0, -0.09, -0.09])
"""Point about which the head turns on the shoulders, metres; that of ``pipelines.studio.captures.performance``."""
BEND_TOP, BEND_BOTTOM = -0.10, -0.19
"""Heights between which the turn of the shoulders grows from nothing to all of it, metres."""


def shoulder_share(rest: Floats, head_vertex: NDArray[np.int64]) -> Floats:
    """Return the share (N,) of the shoulders' turn at base vertices; none for those of the head."""
    lowest = rest[head_vertex, 1].min()
    fall = np.clip((lowest + 0.035 - rest[:, 1]) / (BEND_TOP - BEND_BOTTOM), 0, 1)
    share = fall * fall * (3 - 2 * fall)
    share[head_vertex] = 0
    return share.astype(np.float32)


def turn_shoulders(points: Floats, share: Floats, neck: tuple[float, float, float]) -> Floats:
    """Return points (N, 3) turned back about the neck by their share (N,) of its rotation."""
    turned = points.copy()
    moving = share > 0
    if moving.any() and any(neck):
        turns = Rotation.from_rotvec(-share[moving, None] * np.asarray(neck))
        turned[moving] = turns.apply(points[moving] - PIVOT) + PIVOT
    return turned


def move_points(points: NDArray[np.floating], to_world: NDArray[np.float64]) -> Floats:
    """Return points (N, 3) of the head's frame in the world's, for a pose (4, 4)."""
    return (points @ to_world[:3, :3].T + to_world[:3, 3]).astype(np.float32)
