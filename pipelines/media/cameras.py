"""Pinhole cameras of captures, in numpy.

The camera's axes are those of OpenCV: x right, y down, z forward. Extrinsics map the world to the camera. Lengths are
in metres, intrinsics in pixels. Pixel coordinates have their origin at the top-left corner of the top-left pixel, whose
centre is (0.5, 0.5). ``ffavatar_model.camera`` uses the same conventions for batches of torch tensors.
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
    """(3, 4) rotation and translation (metres) from the world to the camera."""
    width: int
    """Width of the image, pixels."""
    height: int
    """Height of the image, pixels."""

    @property
    def centre(self) -> Array:
        """Position (3,) of the camera in the world, metres."""
        rotation, translation = self.world_to_camera[:, :3], self.world_to_camera[:, 3]
        return -rotation.T @ translation

    def project(self, points: NDArray[np.floating]) -> tuple[Array, Array]:
        """Project points of the world to the image.

        Args:
            points: (N, 3) positions in the world, metres.

        Returns:
            Pixel coordinates (N, 2), and depths (N,) in metres.
        """
        in_camera = np.asarray(points, np.float64) @ self.world_to_camera[:, :3].T + self.world_to_camera[:, 3]
        pixels = in_camera @ self.K.T
        return pixels[:, :2] / pixels[:, 2:], in_camera[:, 2]

    def resized(self, width: int, height: int) -> Camera:
        """Return the camera of the resized image; the x and y axes of ``K`` are scaled separately.

        Args:
            width: Width of the resized image, pixels.
            height: Height of the resized image, pixels.
        """
        scale = np.diag([width / self.width, height / self.height, 1.0])
        return Camera(scale @ self.K, self.world_to_camera, width, height)

    def moved(self, head_to_world: Array) -> Camera:
        """Return this camera with the head's frame as its world: ``world_to_camera`` then maps the head's frame.

        Args:
            head_to_world: (3, 4) pose of the head in the world, metres.
        """
        return Camera(self.K, compose(self.world_to_camera, head_to_world), self.width, self.height)


def compose(outer: Array, inner: Array) -> Array:
    """Return the rigid transform (3, 4) that applies ``inner`` first, then ``outer``.

    ``ffavatar_model.camera.compose_rigid`` does the same for batches of torch tensors.

    Args:
        outer: (3, 4) transform that is applied last.
        inner: (3, 4) transform that is applied first.
    """
    return np.concatenate(
        [outer[:, :3] @ inner[:, :3], (outer[:, :3] @ inner[:, 3] + outer[:, 3])[:, None]],
        axis=1,
    )


def rotation_yxz(yaw: float, pitch: float, roll: float) -> Array:
    """Return the rotation (3, 3) that first tilts about +Z, then nods about +X, then turns about +Y.

    For a head, positive yaw turns the face to the head's own left, and positive pitch turns it down.

    Args:
        yaw: Turn about +Y, radians.
        pitch: Nod about +X, radians.
        roll: Tilt about +Z, radians.
    """
    cy, sy, cx, sx, cz, sz = (f(a) for a in (yaw, pitch, roll) for f in (np.cos, np.sin))
    turn = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    nod = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    tilt = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    return turn @ nod @ tilt


def look_at(position: Array, target: Array, roll: float = 0.0) -> Array:
    """Return the world-to-camera transform (3, 4) of a camera that looks at a point.

    Without roll, the world's +Y points up in the image.

    Args:
        position: (3,) position of the camera in the world, metres.
        target: (3,) point at which the camera looks, metres.
        roll: Rotation about the viewing axis, radians.
    """
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
    """Return a camera with a square image that lies on a sphere around a target and looks at the target.

    Args:
        yaw: Azimuth of the camera seen from the target, radians, positive towards +X.
        pitch: Elevation of the camera seen from the target, radians, positive if the camera is above it.
        distance: Radius of the sphere, metres.
        target: (3,) centre of the sphere, metres.
        span: Width of the field of view at the target's distance, metres.
        size: Side of the image, pixels.
        roll: Rotation about the viewing axis, radians.
    """
    direction = np.array([np.sin(yaw) * np.cos(pitch), np.sin(pitch), np.cos(yaw) * np.cos(pitch)])
    focal = size * distance / span
    intrinsics = np.array([[focal, 0, size / 2], [0, focal, size / 2], [0, 0, 1.0]])
    return Camera(intrinsics, look_at(target + distance * direction, target, roll), size, size)
