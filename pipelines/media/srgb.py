"""Conversion between sRGB values and linear light."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


def encode_srgb(linear: Floats) -> NDArray[np.uint8]:
    """Return the 8-bit sRGB values (IEC 61966-2-1) of linear light, which is clipped to 0 to 1."""
    x = np.clip(linear, 0, 1)
    return (np.where(x <= 0.0031308, 12.92 * x, 1.055 * x ** (1 / 2.4) - 0.055) * 255 + 0.5).astype(np.uint8)


def decode_srgb(rgb: NDArray[np.floating] | tuple[float, float, float]) -> Floats:
    """Return the linear light of sRGB values from 0 to 1 (IEC 61966-2-1)."""
    x = np.asarray(rgb, np.float32)
    return np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4).astype(np.float32)
