"""Head-centred crops of calibrated pictures: one resampling, and intrinsics that follow it exactly."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pipelines.media.cameras import Array, Camera

HEAD_CENTRE = np.array([0.0, -0.012, -0.05])
"""Middle of the head in the head model's frame, metres: crops are centred on it."""
HEAD_SPAN = 0.36
"""Metres at the head's distance that a crop spans: a head of 0.27 m fills three quarters of it."""


def aligned_crop(
    camera: Camera, head_to_world: Array, size: int, span: float = HEAD_SPAN, centre: Array = HEAD_CENTRE
) -> Camera:
    """The camera of the square picture that is cut round the head and resized to ``size`` pixels a side.

    The same pose, another K: the crop is centred on the head's middle (``centre``, in the head's frame, metres) and
    spans ``span`` metres at its depth.
    """
    middle, depth = camera.project((head_to_world[:, :3] @ centre + head_to_world[:, 3])[None])
    scale = size * depth[0] / (span * camera.K[0, 0])
    corner = middle[0] - size / (2 * scale)
    crop = np.array([[scale, 0, -scale * corner[0]], [0, scale, -scale * corner[1]], [0, 0, 1]])
    return Camera(crop @ camera.K, camera.world_to_camera, size, size)


def fitted(camera: Camera, size: int) -> Camera:
    """The camera of the whole picture, resized so that its longer side has ``size`` pixels."""
    scale = size / max(camera.width, camera.height)
    return camera.resized(round(camera.width * scale), round(camera.height * scale))


def resample(
    picture: NDArray[np.uint8],
    camera: Camera,
    wanted: Camera,
    outside: int = 0,
    nearest: bool = False,
    distortion: Array | None = None,
) -> NDArray[np.uint8]:
    """A picture of ``camera`` as ``wanted`` sees it: the same pose, another crop and size.

    Args:
        picture: (H, W) or (H, W, 3), of the size that ``camera`` says.
        camera: the picture's camera.
        wanted: what ``aligned_crop`` or ``Camera.resized`` made of it.
        outside: value of what lies outside the picture.
        nearest: take values as they are (labels); else they are averaged where the picture gets smaller, and linear
            where it gets larger.
        distortion: coefficients in OpenCV's order, where the picture is distorted; what comes out is not.

    The map is ``wanted.K @ inv(camera.K)``, with pixel centres at (0.5, 0.5), so that points projected by
    ``wanted.K`` lie where they are seen.
    """
    across = wanted.K @ np.linalg.inv(camera.K)
    straight = distortion is None or not np.any(distortion)
    if straight and picture.shape[:2] == (wanted.height, wanted.width) and np.allclose(across, np.eye(3), atol=1e-9):
        return picture
    scale = float(np.sqrt(abs(np.linalg.det(across[:2, :2]))))
    factor = 1 if nearest else max(1, int(np.ceil(1 / scale - 1e-6)))
    # Averaging: sampled on a grid that is finer by a whole factor, about as fine as the picture, then pooled.
    fine = np.diag([factor, factor, 1.0]) @ across
    half = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])
    # OpenCV counts pixel centres as whole numbers: shift by half a pixel on both sides.
    matrix = (np.linalg.inv(half) @ fine @ half)[:2]
    size = (wanted.width * factor, wanted.height * factor)
    flags = cv2.INTER_NEAREST if nearest else cv2.INTER_LINEAR
    border: dict[str, Any] = {"borderMode": cv2.BORDER_CONSTANT, "borderValue": (outside,) * 3}
    if straight:
        out = cv2.warpAffine(picture, matrix, size, flags=flags, **border)
    else:
        before, after = np.linalg.inv(half) @ camera.K, np.linalg.inv(half) @ fine @ camera.K
        maps = cv2.initUndistortRectifyMap(before, distortion, np.eye(3), after, size, cv2.CV_32FC1)
        out = cv2.remap(picture, *maps, flags, **border)
    if factor > 1:
        out = cv2.resize(out, (wanted.width, wanted.height), interpolation=cv2.INTER_AREA)
    return np.asarray(out, np.uint8)


def seen_share(camera: Camera, wanted: Camera) -> float:
    """Share of the picture of ``wanted`` that lies inside the picture of ``camera``."""
    back = camera.K @ np.linalg.inv(wanted.K)
    low, high = (back @ (0, 0, 1))[:2], (back @ (wanted.width, wanted.height, 1))[:2]
    inside = np.minimum(high, (camera.width, camera.height)) - np.maximum(low, 0)
    return float(np.prod(np.clip(inside, 0, None) / (high - low)))
