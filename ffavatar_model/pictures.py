"""A crop and its matte as the model sees them: one background, the body below the chin faded out."""

from __future__ import annotations

import io

import torch
from torch import Tensor
from torch.nn import functional as F

BACKGROUND = (1.0, 1.0, 1.0)
"""RGB behind every head, in training and in use."""

CHIN, FOREHEAD = 152, 10
"""Face-mesh points at the lower tip of the chin and at the top of the forehead."""
NECK_START, NECK_END = 0.15, 0.4
"""The matte fades to 0 between these distances below the chin, in forehead-to-chin lengths: a head has no shoulders."""


def decode(data: bytes, grey: bool = False) -> Tensor:
    """An encoded picture (WebP, PNG, JPEG) → uint8 (3, H, W) RGB, or (1, H, W) grey; ``ValueError`` for others."""
    import numpy as np
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(data)) as opened:
            pixels = np.array(opened.convert("L" if grey else "RGB"))
    except (UnidentifiedImageError, OSError) as error:
        raise ValueError(f"a picture of {len(data)} bytes does not decode: {error}") from None
    return torch.from_numpy(pixels[None] if grey else pixels.transpose(2, 0, 1))


def resize(picture: Tensor, size: int) -> Tensor:
    """(C, H, W) uint8 or float in 0 to 1 → (C, size, size) float in 0 to 1, averaged when it shrinks."""
    if picture.shape[-2:] != (size, size):  # bytes as bytes: three to six times as fast, within one grey level
        picture = F.interpolate(picture[None], (size, size), mode="bilinear", antialias=True)[0]
    return picture.float() / 255 if picture.dtype == torch.uint8 else picture.clamp(0, 1)


def head_matte(matte: Tensor, landmarks: Tensor | None) -> Tensor:
    """The matte without what lies below the chin.

    ``matte (1, H, W)`` in 0 to 1; ``landmarks (468, 2)`` in picture widths, None leaves the matte as it is.
    "Below" runs along the face's own axis, from the forehead to the chin.
    """
    if landmarks is None:
        return matte
    chin, axis = landmarks[CHIN], landmarks[CHIN] - landmarks[FOREHEAD]
    length = axis.norm().clamp_min(1e-3)
    height, width = matte.shape[-2:]
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    below = ((x / width - chin[0]) * axis[0] + (y / width - chin[1]) * axis[1]) / length**2
    return matte * ((NECK_END - below) / (NECK_END - NECK_START)).clamp(0, 1)


def prepare(
    rgb: Tensor,
    matte: Tensor | None,
    landmarks: Tensor | None,
    size: int,
    background: tuple[float, ...] = BACKGROUND,
) -> tuple[Tensor, Tensor]:
    """A crop as the model takes it, in training and in use.

    Args:
        rgb: (3, H, W) uint8 or float in 0 to 1, an aligned crop.
        matte: (1, H, W) uint8 or float, 255 or 1 is the person; None: all of it is.
        landmarks: (468, 2) the face mesh in picture widths, or None.
        size: pixels along the edge of the result.

    Returns:
        The picture (3, size, size) over the background, and its matte (1, size, size), both 0 to 1.
    """
    picture = resize(rgb, size)
    mask = torch.ones_like(picture[:1]) if matte is None else head_matte(resize(matte, size), landmarks)
    behind = torch.tensor(background)[:, None, None]
    return picture * mask + behind * (1 - mask), mask
