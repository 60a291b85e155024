"""Preparation of images: crops and their mattes become the model's input, in training and in inference.

A prepared image is a (4, S, S) uint8 tensor: RGB over any background, and the head's matte, in which the body below the
chin is faded out. It stays uint8 until it is on the device; there it is blended with the background ``BACKGROUND``.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

BACKGROUND = (1.0, 1.0, 1.0)
"""RGB of the background behind every head, in training and in inference."""

CHIN, FOREHEAD = 152, 10
"""Indices of the face-mesh points at the lower tip of the chin and at the top of the forehead."""
NECK_START, NECK_END = 0.15, 0.4
"""Distances below the chin between which the matte fades to 0, in forehead-to-chin lengths; this removes shoulders."""


def resize_square(image: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Resize a square image (H, W) or (H, W, 3) to ``size`` pixels along an edge.

    Shrinking averages over areas; enlarging is bilinear.
    """
    import cv2

    if image.shape[:2] == (size, size):
        return image
    method = cv2.INTER_AREA if size < min(image.shape[:2]) else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, (size, size), interpolation=method), np.uint8)


def head_matte(matte: NDArray[np.uint8], landmarks: Tensor | None) -> NDArray[np.uint8]:
    """Fade out the part of a matte that is below the chin.

    "Below" means along the face's own axis, which points from the forehead to the chin.

    Args:
        matte: (H, W), 255 inside the person.
        landmarks: (468, 2) face-mesh points in image widths; None leaves the matte unchanged.

    Returns:
        (H, W), 255 inside the head.
    """
    if landmarks is None:
        return matte
    (chin_x, chin_y), (top_x, top_y) = landmarks[CHIN].tolist(), landmarks[FOREHEAD].tolist()
    right, down = chin_x - top_x, chin_y - top_y
    slope = 1 / max(right**2 + down**2, 1e-6) / (NECK_END - NECK_START)
    height, width = matte.shape
    x = -right * slope * ((np.arange(width) + 0.5) / width - chin_x)
    y = NECK_END / (NECK_END - NECK_START) - down * slope * ((np.arange(height) + 0.5) / width - chin_y)
    rows = np.flatnonzero(y + min(x[0], x[-1]) < 1)  # the other rows stay unchanged
    if not len(rows):
        return matte
    band = slice(rows[0], rows[-1] + 1)
    weight = np.add.outer(y[band].astype(np.float32), x.astype(np.float32)).clip(0, 1)
    faded = matte.copy()
    faded[band] = matte[band] * weight + 0.5
    return faded


def prepare_image(
    rgb: NDArray[np.uint8], matte: NDArray[np.uint8] | None, landmarks: Tensor | None, size: int
) -> Tensor:
    """Prepare a crop for the model, in training and in inference.

    Args:
        rgb: (H, W, 3) aligned crop.
        matte: (H, W), 255 inside the person; None keeps all pixels.
        landmarks: (468, 2) face-mesh points in image widths; None leaves the matte's lower end unchanged.
        size: Pixels along the edge of the result.

    Returns:
        (4, size, size) uint8, RGB and the head's matte.
    """
    import cv2

    small = resize_square(rgb, size)
    mask = np.full((size, size), 255, np.uint8) if matte is None else head_matte(resize_square(matte, size), landmarks)
    return torch.from_numpy(cv2.merge([*cv2.split(small), mask])).permute(2, 0, 1)


def over_background(rgb: Tensor, matte: Tensor) -> Tensor:
    """Blend ``rgb`` (..., 3, H, W), 0 to 1, with ``BACKGROUND``; ``matte`` (..., 1, H, W) is the weight of ``rgb``."""
    behind = torch.tensor(BACKGROUND, device=rgb.device)[:, None, None]
    return torch.lerp(behind.expand_as(rgb), rgb, matte)


def compose_image(pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Blend prepared images with the background.

    Args:
        pixels: (..., 4, H, W) uint8, as ``prepare_image`` returns them.

    Returns:
        The image (..., 3, H, W) over the background, and its matte (..., 1, H, W), both 0 to 1.
    """
    rgb, matte = (pixels.contiguous().float() / 255).split((3, 1), -3)
    return over_background(rgb, matte), matte
