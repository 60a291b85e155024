"""Gaze and irises: rotations of eyeballs, and the ten iris points."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
IRIS_RADIUS = 0.0059
"""Radius of an iris, metres."""


def gaze_rotation(across: float, up: float) -> Array:
    """Return the rotation (3, 3) of an eye that looks to the head's left and up by angles in radians."""
    ca, sa, cu, su = np.cos(across), np.sin(across), np.cos(up), np.sin(up)
    turn = np.array([[ca, 0, sa], [0, 1, 0], [-sa, 0, ca]])
    return turn @ np.array([[1, 0, 0], [0, cu, su], [0, -su, cu]])


def split_gaze(actions: Mapping[str, float]) -> dict[str, float]:
    """Return the actions without those of gaze, which a pose holds as angles.

    Raises:
        ValueError: An action of gaze has a strength.
    """
    if gazing := [name for name, value in actions.items() if name.startswith("eyeLook") and value]:
        raise ValueError(f"action {gazing[0]} is set beside the gaze: give the eyes' angles as Pose.gaze")
    return {name: value for name, value in actions.items() if not name.startswith("eyeLook")}


def iris_points(centres: Array, radii: Array, rotations: Array) -> Array:
    """Return the ten points of the irises in the order of the 478-point mesh: right eye, then left eye.

    Each iris has its centre, then the points to the head's left, top, right and bottom.

    Args:
        centres: (2, 3) centres of the left and the right eyeball, metres.
        radii: (2,) their radii, metres.
        rotations: (2, 3, 3) their rotations.
    """
    ring = IRIS_RADIUS * np.array([(0, 0), (1, 0), (0, 1), (-1, 0), (0, -1)])
    points = []
    for eye in (1, 0):
        depth = np.sqrt(radii[eye] ** 2 - (ring**2).sum(1))
        points.append(centres[eye] + np.concatenate([ring, depth[:, None]], 1) @ rotations[eye].T)
    return np.concatenate(points)
