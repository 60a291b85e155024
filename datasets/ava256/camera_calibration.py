"""Reading and writing of ``camera_calibration.json``.

The file holds transposed matrices in millimetres; this module returns and takes OpenCV's convention in metres.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ava256.naming import FULL_HEIGHT, FULL_WIDTH, MILLIMETRE

Array = NDArray[np.float64]
ORTHONORMAL = 1e-4
"""Largest allowed difference between an entry of ``R R^T`` and the identity."""


@dataclass(frozen=True)
class CalibratedCamera:
    """A camera of the rig, for the image of 4096 x 2668 pixels (height x width)."""

    K: Array
    """(3, 3) intrinsics, pixels."""
    distortion: Array
    """(4,) radial and tangential distortion in OpenCV's order: k1, k2, p1, p2. The published loader ignores it."""
    world_to_camera: Array
    """(3, 4) transform from the world to the camera, OpenCV axes, metres."""

    def sized(self, width: int, height: int) -> Array:
        """Return the intrinsics (3, 3) of the resized full image; the x and y axes are scaled separately.

        Args:
            width: Width of the image, pixels.
            height: Height of the image, pixels.
        """
        return np.diag([width / FULL_WIDTH, height / FULL_HEIGHT, 1.0]) @ self.K


class CalibrationError(ValueError):
    """Error for a calibration, or an entry of a calibration, that does not describe a camera."""


def read_calibration(data: bytes) -> dict[str, CalibratedCamera | CalibrationError]:
    """Read the cameras of a ``camera_calibration.json``.

    The file holds ``K^T`` and ``T``, where ``world_to_camera = (T[:4, :3])^T`` with the translation in millimetres.

    Args:
        data: Bytes of the file.

    Returns:
        Camera id → camera, or an error if the entry does not describe a camera.

    Raises:
        CalibrationError: The bytes are not JSON with a list ``KRT``.
    """
    try:
        entries = json.loads(data)["KRT"]
        by_id = {str(entry["cameraId"]): entry for entry in entries}
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CalibrationError(f"no calibration with a list 'KRT' of cameras ({error})") from error
    return {name: _read_camera(name, entry) for name, entry in by_id.items()}


def _read_camera(name: str, entry: Mapping[str, Any]) -> CalibratedCamera | CalibrationError:
    try:
        K = np.array(entry["K"], np.float64).reshape(3, 3).T
        T = np.array(entry["T"], np.float64).reshape(4, 4)[:4, :3].T
        distortion = np.array(entry.get("distortion", [0.0] * 4), np.float64).reshape(-1)
    except (KeyError, TypeError, ValueError) as error:
        return CalibrationError(f"camera {name}: lacks a K of 3 x 3, a T of 4 x 4 ({error})")
    if problem := _find_problem(K, T):
        return CalibrationError(f"camera {name}: {problem}")
    return CalibratedCamera(K, distortion, np.concatenate([T[:, :3], T[:, 3:] * MILLIMETRE], axis=1))


def _find_problem(K: Array, T: Array) -> str:
    """Describe a problem of intrinsics or a pose; empty if both are valid."""
    if not (np.isfinite(K).all() and np.isfinite(T).all()):
        return "numbers that are not finite"
    if not np.allclose(K[2], (0, 0, 1)) or min(K[0, 0], K[1, 1]) <= 0 or abs(K[1, 0]) > 1e-6:
        return f"K has the last row {K[2].tolist()} and focal lengths {K[0, 0]:g}, {K[1, 1]:g}: transposed?"
    if not is_rotation(T[:, :3]):
        return "T holds no rotation"
    return ""


def is_rotation(matrix: Array) -> bool:
    """Return True if a matrix (3, 3) is orthonormal within ``ORTHONORMAL`` and is not a reflection."""
    return bool(
        np.allclose(matrix @ matrix.T, np.eye(3), atol=ORTHONORMAL) and abs(np.linalg.det(matrix) - 1) < 3 * ORTHONORMAL
    )


def write_calibration(cameras: Mapping[str, CalibratedCamera]) -> bytes:
    """Return the ``camera_calibration.json`` of cameras, in the data set's form.

    Args:
        cameras: Camera id → camera, in the order of the file.
    """
    entries = []
    for name, camera in cameras.items():
        T = np.eye(4)
        T[:3] = camera.world_to_camera
        T[:3, 3] /= MILLIMETRE
        entries.append(
            {
                "cameraId": name,
                "projectionModel": "Pinhole",
                "distortionModel": "RadialAndTangential",
                "K": camera.K.T.tolist(),
                "distortion": camera.distortion.tolist(),
                "T": T.T.tolist(),
            }
        )
    return json.dumps({"KRT": entries}, indent=4).encode()
