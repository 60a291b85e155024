"""Images: crops and their mattes prepared as the model takes them, in training and in use.

A prepared image is a (4, S, S) uint8 tensor, RGB over any background and the head's matte, in which the body below the
chin is faded out. It stays bytes until the device has it; there it is composed over one background.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

BACKGROUND = (1.0, 1.0, 1.0)
"""RGB behind every head, in training and in use."""

CHIN, FOREHEAD = 152, 10
"""Face-mesh points at the lower tip of the chin and at the top of the forehead."""
NECK_START, NECK_END = 0.15, 0.4
"""The matte fades to 0 between these distances below the chin, in forehead-to-chin lengths: a head has no shoulders."""


def resize_square(image: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Resize a square image (H, W) or (H, W, 3) to ``size`` pixels along an edge: area average when it shrinks."""
    import cv2

    if image.shape[:2] == (size, size):
        return image
    method = cv2.INTER_AREA if size < min(image.shape[:2]) else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, (size, size), interpolation=method), np.uint8)


def head_matte(matte: NDArray[np.uint8], landmarks: Tensor | None) -> NDArray[np.uint8]:
    """Fade out what lies below the chin in a matte.

    "Below" runs along the face's own axis, from the forehead to the chin.

    Args:
        matte: (H, W), 255 is the person.
        landmarks: (468, 2) the face mesh in image widths; None leaves the matte as it is.

    Returns:
        (H, W), 255 is the head.
    """
    if landmarks is None:
        return matte
    (chin_x, chin_y), (top_x, top_y) = landmarks[CHIN].tolist(), landmarks[FOREHEAD].tolist()
    right, down = chin_x - top_x, chin_y - top_y
    slope = 1 / max(right**2 + down**2, 1e-6) / (NECK_END - NECK_START)
    height, width = matte.shape
    x = -right * slope * ((np.arange(width) + 0.5) / width - chin_x)
    y = NECK_END / (NECK_END - NECK_START) - down * slope * ((np.arange(height) + 0.5) / width - chin_y)
    rows = np.flatnonzero(y + min(x[0], x[-1]) < 1)  # the other rows stay as they are
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
    """Prepare a crop as the model takes it, in training and in use.

    Args:
        rgb: (H, W, 3), an aligned crop.
        matte: (H, W), 255 is the person; None: all of it is.
        landmarks: (468, 2) the face mesh in image widths, or None.
        size: Pixels along the edge of the result.

    Returns:
        (4, size, size) uint8: RGB and the head's matte.
    """
    import cv2

    small = resize_square(rgb, size)
    mask = np.full((size, size), 255, np.uint8) if matte is None else head_matte(resize_square(matte, size), landmarks)
    return torch.from_numpy(cv2.merge([*cv2.split(small), mask])).permute(2, 0, 1)


def over_background(rgb: Tensor, matte: Tensor) -> Tensor:
    """Blend ``rgb`` (..., 3, H, W) in 0 to 1 with ``BACKGROUND``, by ``matte`` (..., 1, H, W)."""
    behind = torch.tensor(BACKGROUND, device=rgb.device)[:, None, None]
    return torch.lerp(behind.expand_as(rgb), rgb, matte)


def compose_image(pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Compose prepared images over the background.

    Args:
        pixels: (..., 4, H, W) uint8, as ``prepare_image`` returns them.

    Returns:
        The image (..., 3, H, W) over the background, and its matte (..., 1, H, W), both 0 to 1.
    """
    rgb, matte = (pixels.contiguous().float() / 255).split((3, 1), -3)
    return over_background(rgb, matte), matte
