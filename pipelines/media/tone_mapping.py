"""Tone mapping of HDR frames (PQ and HLG, ITU-R BT.2100) to SDR BT.709.

The light of each pixel on the display, in units of the reference white of 203 cd/m² (ITU-R BT.2408), goes through four
steps:

1. PQ: the EOTF of BT.2100, table 4. HLG: the inverse OETF of BT.2100, table 5, then the OOTF ``L = 1000 Y^0.2 E`` of a
   display of 1,000 cd/m², where Y is the luminance of the scene light E.
2. The primaries of BT.2020 are converted to those of BT.709; negative components become 0.
3. With ``m`` the largest component, the pixel is multiplied by ``f(m) / m``, which keeps its hue. ``f(m) = m`` up to
   the knee k = 0.8; above it, ``f(m) = k + (1 - k) t / (1 + t)`` with ``t = (m - k) / (1 - k)`` cuts no highlight.
4. The inverse of the EOTF of BT.1886: ``V = L^(1 / 2.4)``.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

PQ, HLG = 16, 18
"""Numbers of the transfer characteristics in ITU-T H.273 (SMPTE ST 2084, ARIB STD-B67)."""

REFERENCE_WHITE = 203.0
"""Luminance of the reference white, cd/m²: SDR's white before the roll-off."""
HLG_PEAK = 1000.0
"""Peak luminance of the display for which HLG's OOTF is computed, cd/m²."""
KNEE = 0.8
"""Light from which highlights are compressed, in units of the reference white."""

_BITS = 12
_LUMINANCE_2020 = np.array([[0.2627, 0.6780, 0.0593]], np.float32)
_FROM_2020_TO_709 = np.array(
    [[1.660491, -0.587641, -0.072850], [-0.124550, 1.132900, -0.008349], [-0.018151, -0.100579, 1.118730]], np.float32
)
"""Matrix of ITU-R BT.2087, inverse direction."""

Floats = npt.NDArray[np.float32]


def is_hdr(transfer: int) -> bool:
    """Return True if a frame with this transfer characteristic must be tone-mapped.

    Args:
        transfer: Number of the transfer characteristic in ITU-T H.273.
    """
    return transfer in (PQ, HLG)


def map_to_sdr(rgb: npt.NDArray[np.uint16], transfer: int) -> npt.NDArray[np.uint8]:
    """Convert an HDR image to SDR.

    Args:
        rgb: (H, W, 3) RGB with the primaries of BT.2020, 0 to 65535.
        transfer: ``PQ`` or ``HLG``.

    Returns:
        (H, W, 3) RGB, BT.709.
    """
    light: Any = _linear_table(transfer)[rgb >> (16 - _BITS)]
    if transfer == HLG:
        luminance = cv2.transform(light, _LUMINANCE_2020)
        light *= (HLG_PEAK / REFERENCE_WHITE) * cv2.pow(luminance, 0.2)[..., None]
    light = np.maximum(cv2.transform(light, _FROM_2020_TO_709), 0)
    peak = light.max(axis=-1, keepdims=True)
    light *= roll_off(peak) / np.maximum(peak, 1e-6)
    return np.asarray(np.rint(255 * cv2.pow(light, 1 / 2.4)), np.uint8)


def roll_off(light: Floats) -> Floats:
    """Compress light above the knee: ``f`` of the module's docstring.

    Args:
        light: Light in units of the reference white, any shape.
    """
    above = np.maximum(light - KNEE, 0) / (1 - KNEE)
    return np.minimum(light, KNEE) + (1 - KNEE) * above / (1 + above)


@cache
def _linear_table(transfer: int) -> Floats:
    """Return the light of each of ``2 ** _BITS`` signal values: PQ over the reference white, HLG of the scene."""
    signal = (np.arange(1 << _BITS) + 0.5) / (1 << _BITS)
    if transfer == PQ:
        power = signal ** (32 / 2523)
        light = (np.maximum(power - 3424 / 4096, 0) / (2413 / 128 - 2392 / 128 * power)) ** (16384 / 2610)
        return np.asarray(light * 10_000 / REFERENCE_WHITE, np.float32)
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    return np.asarray(np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12), np.float32)
