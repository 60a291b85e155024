"""Pinhole cameras of captures, OpenCV axes: x right, y down, z forward; world to camera; metres; pixels.

Pixel coordinates have their origin at the top-left corner of the top-left pixel, whose centre is (0.5, 0.5).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Camera:
    """A pinhole camera without distortion."""

    K: Array
    """(3, 3) intrinsics, pixels."""
    world_to_camera: Array
    """(3, 4) rotation and translation, metres."""
    width: int
    height: int

    @property
    def centre(self) -> Array:
        """(3,) the camera's position in the world."""
        rotation, translation = self.world_to_camera[:, :3], self.world_to_camera[:, 3]
        return -rotation.T @ translation

    def project(self, points: NDArray[np.floating]) -> tuple[Array, Array]:
        """Pixels (N, 2) and depths (N,) of world points (N, 3)."""
        in_camera = np.asarray(points, np.float64) @ self.world_to_camera[:, :3].T + self.world_to_camera[:, 3]
        pixels = in_camera @ self.K.T
        return pixels[:, :2] / pixels[:, 2:], in_camera[:, 2]

    def resized(self, width: int, height: int) -> Camera:
        """The camera of the same picture at another size: each axis of ``K`` follows its own scale."""
        scale = np.diag([width / self.width, height / self.height, 1.0])
        return Camera(scale @ self.K, self.world_to_camera, width, height)

    def moved(self, head_to_world: Array) -> Camera:
        """This camera as seen from the head: its ``world_to_camera`` takes points of the head's frame."""
        return Camera(self.K, compose(self.world_to_camera, head_to_world), self.width, self.height)


def compose(outer: Array, inner: Array) -> Array:
    """(3, 4) of two rigid (3, 4) transforms: first ``inner``, then ``outer``."""
    return np.concatenate(
        [outer[:, :3] @ inner[:, :3], (outer[:, :3] @ inner[:, 3] + outer[:, 3])[:, None]],
        axis=1,
    )


def rotation_yxz(yaw: float, pitch: float, roll: float) -> Array:
    """(3, 3) tilt about +Z by ``roll``, then nod about +X by ``pitch``, then turn about +Y by ``yaw``; radians.

    Applied to a head: positive yaw turns its face to its own left, positive pitch looks down.
    """
    cy, sy, cx, sx, cz, sz = (f(a) for a in (yaw, pitch, roll) for f in (np.cos, np.sin))
    turn = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    nod = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    tilt = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    return turn @ nod @ tilt


def look_at(position: Array, target: Array, roll: float = 0.0) -> Array:
    """(3, 4) world to camera of a camera at ``position`` that looks at ``target``, the world's +Y up in the picture."""
    forward = (target - position) / np.linalg.norm(target - position)
    right = np.cross(forward, [0.0, 1.0, 0.0])
    right /= np.linalg.norm(right)
    down = np.cross(forward, right)
    c, s = np.cos(roll), np.sin(roll)
    rotation = np.stack([c * right + s * down, -s * right + c * down, forward])
    return np.concatenate([rotation, (-rotation @ position)[:, None]], axis=1)


def aimed_camera(
    yaw: float, pitch: float, *, distance: float, target: Array, span: float, size: int, roll: float = 0.0
) -> Camera:
    """A square camera on a sphere round ``target``, whose picture spans ``span`` metres at the target.

    ``yaw`` and ``pitch`` (radians) are where it stands, seen from the target: positive yaw towards +X, positive
    pitch above.
    """
    direction = np.array([np.sin(yaw) * np.cos(pitch), np.sin(pitch), np.cos(yaw) * np.cos(pitch)])
    focal = size * distance / span
    intrinsics = np.array([[focal, 0, size / 2], [0, focal, size / 2], [0, 0, 1.0]])
    return Camera(intrinsics, look_at(target + distance * direction, target, roll), size, size)
