"""Head-centred crops of calibrated images, resampled once, with intrinsics that match the crop exactly."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pipelines.media.cameras import Array, Camera

HEAD_CENTRE = np.array([0.0, -0.012, -0.05])
"""Centre of the head and of the crops, in the head model's frame, metres."""
HEAD_SPAN = 0.36
"""Length that a crop spans at the head's distance, metres; a head of 0.27 m fills three quarters of the crop."""


def aligned_crop(
    camera: Camera, head_to_world: Array, size: int, span: float = HEAD_SPAN, centre: Array = HEAD_CENTRE
) -> Camera:
    """Return the camera of the square crop around the head, which has the same pose but another ``K``.

    Args:
        camera: Camera of the full image.
        head_to_world: (3, 4) pose of the head, metres.
        size: Side of the crop, pixels.
        span: Length that the crop spans at the depth of ``centre``, metres.
        centre: (3,) point in the head's frame on which the crop is centred, metres.
    """
    pixel, depth = camera.project((head_to_world[:, :3] @ centre + head_to_world[:, 3])[None])
    scale = size * depth[0] / (span * camera.K[0, 0])
    corner = pixel[0] - size / (2 * scale)
    crop = np.array([[scale, 0, -scale * corner[0]], [0, scale, -scale * corner[1]], [0, 0, 1]])
    return Camera(crop @ camera.K, camera.world_to_camera, size, size)


def resized_camera(camera: Camera, size: int) -> Camera:
    """Return the camera of the full image, resized so that its longer side has ``size`` pixels."""
    scale = size / max(camera.width, camera.height)
    return camera.resized(round(camera.width * scale), round(camera.height * scale))


def resample(
    image: NDArray[np.uint8],
    camera: Camera,
    target: Camera,
    outside: int = 0,
    nearest: bool = False,
    distortion: Array | None = None,
) -> NDArray[np.uint8]:
    """Resample an image of ``camera`` to one of ``target``, a camera of the same pose with another crop and size.

    The map is ``target.K @ inv(camera.K)``, with pixel centres at (0.5, 0.5). A point that is projected with
    ``target.K`` therefore lies at its position in the resampled image.

    Args:
        image: (H, W) or (H, W, 3), with the size of ``camera``.
        camera: Camera of the image.
        target: Result of ``aligned_crop`` or ``Camera.resized`` for ``camera``.
        outside: Value of pixels outside the image.
        nearest: Use the value of the nearest pixel, for example for labels. Otherwise values are averaged if the image
            gets smaller, and interpolated linearly if it gets larger.
        distortion: Distortion coefficients of the image in OpenCV's order; the result is undistorted.

    Returns:
        (h, w) or (h, w, 3), with the size of ``target``; ``image`` itself if nothing changes.
    """
    across = target.K @ np.linalg.inv(camera.K)
    straight = distortion is None or not np.any(distortion)
    if straight and image.shape[:2] == (target.height, target.width) and np.allclose(across, np.eye(3), atol=1e-9):
        return image
    scale = float(np.sqrt(abs(np.linalg.det(across[:2, :2]))))
    factor = 1 if nearest else max(1, int(np.ceil(1 / scale - 1e-6)))
    # Averaging: sample on a grid that is finer by an integer factor, about as fine as the image, then pool.
    fine = np.diag([factor, factor, 1.0]) @ across
    half = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])
    # OpenCV's pixel centres have integer coordinates: shift by half a pixel on both sides.
    matrix = (np.linalg.inv(half) @ fine @ half)[:2]
    size = (target.width * factor, target.height * factor)
    flags = cv2.INTER_NEAREST if nearest else cv2.INTER_LINEAR
    border: dict[str, Any] = {"borderMode": cv2.BORDER_CONSTANT, "borderValue": (outside,) * 3}
    if straight:
        out = cv2.warpAffine(image, matrix, size, flags=flags, **border)
    else:
        before, after = np.linalg.inv(half) @ camera.K, np.linalg.inv(half) @ fine @ camera.K
        maps = cv2.initUndistortRectifyMap(before, distortion, np.eye(3), after, size, cv2.CV_32FC1)
        out = cv2.remap(image, *maps, flags, **border)
    if factor > 1:
        out = cv2.resize(out, (target.width, target.height), interpolation=cv2.INTER_AREA)
    return np.asarray(out, np.uint8)


def visible_share(camera: Camera, target: Camera) -> float:
    """Return the share of a crop that lies inside the full image, 0 to 1.

    Args:
        camera: Camera of the full image.
        target: Camera of the crop, with the same pose.
    """
    back = camera.K @ np.linalg.inv(target.K)
    low, high = (back @ (0, 0, 1))[:2], (back @ (target.width, target.height, 1))[:2]
    inside = np.minimum(high, (camera.width, camera.height)) - np.maximum(low, 0)
    return float(np.prod(np.clip(inside, 0, None) / (high - low)))
