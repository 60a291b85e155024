"""Head pose from the 468-point mesh, by Procrustes alignment with a frontal face."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from pipelines.faces.align import Matrix, invert_transform, transform_points
from pipelines.faces.canonical_face import CANONICAL_FACE, REST_NOD

_INDEX = np.array(list(CANONICAL_FACE))


def head_pose(mesh468: npt.ArrayLike, crop_transform: npt.ArrayLike | None = None) -> tuple[float, float, float]:
    """Compute the pose of a head from its mesh.

    With positive yaw the head looks to the image's right, with positive pitch it looks up, and positive roll is
    clockwise in the image; at 0, 0, 0 it looks straight into the camera. The head is first tilted (roll), then nodded
    (pitch), then turned (yaw), each about an axis of the image. Perspective is ignored.

    Measured on rendered heads with known poses (up to 60 degrees of yaw, 30 of pitch, 25 of roll, seen from 1 m), the
    median error of yaw, pitch and roll is 1.5, 1.9 and 0.9 degrees after subtraction of the pitch of that head's rest
    pose (``REST_NOD``). Yaw beyond 45 degrees is underestimated by up to 10 degrees.

    Args:
        mesh468: (468, 3) pixels, x right, y down, z away from the camera.
        crop_transform: (2, 3) frame → crop transform of the mesh's crop. If it is given, the angles are those in the
            frame (alignment removes the roll from the crop); otherwise those in the crop.

    Returns:
        (yaw, pitch, roll), degrees.

    Raises:
        ValueError: The mesh is not (468, 3), or its points coincide.
    """
    mesh = np.asarray(mesh468, np.float64)
    if mesh.shape != (468, 3):
        raise ValueError(f"mesh of shape {mesh.shape}: (468, 3) is needed")
    if crop_transform is not None:
        to_frame = invert_transform(np.asarray(crop_transform, np.float64))
        scale = math.sqrt(abs(float(np.linalg.det(to_frame[:, :2]))))
        mesh = np.column_stack([transform_points(to_frame, mesh[:, :2]), mesh[:, 2] * scale])
    return euler_angles(_fit_rotation(FRONTAL, mesh[_INDEX]))


def euler_angles(rotation: Matrix) -> tuple[float, float, float]:
    """Return (yaw, pitch, roll), degrees, of a frontal face's rotation (3, 3); inverse of ``rotation_from_angles``."""
    forward = rotation @ np.array([0.0, 0.0, -1.0])  # a frontal face looks at the camera, towards smaller z
    yaw = math.atan2(forward[0], -forward[2])
    pitch = math.atan2(-forward[1], math.hypot(forward[0], forward[2]))  # y points down: up is negative
    tilt = rotation_from_angles(math.degrees(yaw), math.degrees(pitch), 0.0).T @ rotation
    roll = math.atan2(tilt[1, 0], tilt[0, 0])
    return math.degrees(yaw), math.degrees(pitch), math.degrees(roll)


def rotation_from_angles(yaw: float, pitch: float, roll: float) -> Matrix:
    """Return the rotation (3, 3) turn · nod · tilt.

    The angles are in degrees; the axes are x right, y down, z away from the camera.

    Args:
        yaw: Turn, positive to the image's right.
        pitch: Nod, positive up.
        roll: Tilt, positive clockwise in the image.
    """
    cy, sy, cp, sp, cr, sr = (f(math.radians(a)) for a in (yaw, pitch, roll) for f in (math.cos, math.sin))
    turn = np.array([[cy, 0, -sy], [0, 1, 0], [sy, 0, cy]])
    nod = np.array([[1, 0, 0], [0, cp, sp], [0, -sp, cp]])
    tilt = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    return np.asarray(turn @ nod @ tilt, np.float64)


def _fit_rotation(source: Matrix, target: Matrix) -> Matrix:
    """Find the rotation that, with scale and shift, best maps ``source`` (N, 3) to ``target`` (N, 3) (Kabsch 1976)."""
    a, b = source - source.mean(axis=0), target - target.mean(axis=0)
    u, spread, vt = np.linalg.svd(a.T @ b)
    if not spread[1] > 1e-9:
        raise ValueError("the mesh's points coincide: it has no head pose")
    no_reflection = np.array([1.0, 1.0, np.sign(np.linalg.det(u @ vt))])
    return np.asarray(vt.T @ np.diag(no_reflection) @ u.T, np.float64)


FRONTAL = np.array(list(CANONICAL_FACE.values()), np.float64) @ rotation_from_angles(0.0, REST_NOD, 0.0).T
"""Points (P, 3) of the canonical face, rotated so that it looks straight into the camera: yaw, pitch and roll are 0."""
