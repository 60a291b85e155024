"""Colour calibration of NeRSemble v2: one polynomial per camera, applied in linear light.

``color_calibration.json`` holds a matrix (3, T) per serial number. It is applied as in ``nersemble_data`` 0.0.6
(``util/color_correction.py``): sRGB is decoded to linear light, (R, G, B) is expanded to the T terms of Cheung,
Westland, Connah and Ripamonti (2004), "A comparative study of the characterisation of colour cameras by means of neural
networks and polynomial transforms", multiplied by the matrix, encoded as sRGB again, and clipped. Like the official
kit, this project corrects an image after it was scaled down.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from nersemble.errors import NersembleError

Floats = NDArray[np.float32]

_LINEAR = ("r", "g", "b")
_PAIRS, _SQUARES, _TRIPLE = ("rg", "rb", "gb"), ("rr", "gg", "bb"), ("rgb",)
_MIXED, _OTHER_MIXED, _CUBES = ("rrg", "ggb", "bbr"), ("rrb", "ggr", "bbg"), ("rrr", "ggg", "bbb")
_SECOND = (*_LINEAR, *_PAIRS, *_SQUARES)
_THIRD = (*_SECOND, *_TRIPLE, *_MIXED, *_OTHER_MIXED, *_CUBES)
_FOURTH = (
    "rrrg",
    "rrrb",
    "gggr",
    "gggb",
    "bbbr",
    "bbbg",
    "rrgb",
    "rggb",
    "rgbb",
    "rrgg",
    "rrbb",
    "ggbb",
    "rrrr",
    "gggg",
    "bbbb",
)
CHEUNG_2004: dict[int, tuple[str, ...]] = {
    3: _LINEAR,
    4: (*_LINEAR, ""),
    5: (*_LINEAR, *_TRIPLE, ""),
    7: (*_LINEAR, *_PAIRS, ""),
    8: (*_LINEAR, *_PAIRS, *_TRIPLE, ""),
    10: (*_SECOND, ""),
    11: (*_SECOND, *_TRIPLE, ""),
    14: (*_SECOND, *_TRIPLE, *_CUBES, ""),
    16: (*_SECOND, *_TRIPLE, *_MIXED, *_CUBES),
    17: (*_SECOND, *_TRIPLE, *_MIXED, *_CUBES, ""),
    19: _THIRD,
    20: (*_THIRD, ""),
    22: (*_THIRD, "rrgb", "rggb", "rgbb"),
    35: (*_THIRD, *_FOURTH, ""),
}
"""Number of terms → monomials in order: ``"rrg"`` is R squared times G, ``""`` is 1.

The numbers and orders are those of colour-science 0.4.7 (``matrix_augmented_Cheung2004``), which the official kit
calls.
"""


CHUNK_PIXELS = 1 << 14
"""Number of pixels that are corrected together, so that their terms fit into the processor's cache."""


def expand_terms(linear: Floats, terms: int) -> Floats:
    """Expand linear light (3, N) to the monomials of ``CHEUNG_2004``.

    Args:
        linear: (3, N) linear red, green and blue, 0 to 1.
        terms: Number of monomials.

    Returns:
        (terms, N) values of the monomials.

    Raises:
        NersembleError: Cheung (2004) does not define a polynomial with this number of terms.
    """
    if terms not in CHEUNG_2004:
        raise NersembleError(f"colour calibration of {terms} terms; Cheung (2004) has {list(CHEUNG_2004)}")
    known: dict[str, Floats] = {"": np.ones(linear.shape[1], np.float32)}
    known |= {name: linear[i] for i, name in enumerate("rgb")}

    def monomial(name: str) -> Floats:
        if name not in known:
            known[name] = monomial(name[:-1]) * known[name[-1]]
        return known[name]

    return np.stack([monomial(name) for name in CHEUNG_2004[terms]])


def correct_colours(rgb: NDArray[np.uint8], matrix: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Correct the colours of an image with the matrix of its camera.

    Corrected values are clipped to 0 to 1 and rounded to levels. (The official kit truncates instead, so that its
    images are half a level darker on average.)

    Args:
        rgb: (..., 3) sRGB.
        matrix: (3, T) matrix from ``color_calibration.json``.

    Returns:
        (..., 3) corrected sRGB.

    Raises:
        NersembleError: The matrix does not have three rows and an allowed number of terms.
    """
    matrix = np.asarray(matrix, np.float32)
    if matrix.ndim != 2 or matrix.shape[0] != 3:
        raise NersembleError(f"colour calibration of shape {matrix.shape}; (3, terms) is needed")
    pixels = rgb.reshape(-1, 3)
    corrected = np.empty_like(pixels)
    for start in range(0, max(len(pixels), 1), CHUNK_PIXELS):
        linear = _linear_of_level()[np.ascontiguousarray(pixels[start : start + CHUNK_PIXELS].T)]
        corrected_linear: Floats = np.matmul(matrix, expand_terms(linear, matrix.shape[1]), dtype=np.float32)
        corrected[start : start + CHUNK_PIXELS] = encode_srgb(corrected_linear).T
    return corrected.reshape(rgb.shape)


def encode_srgb(linear: Floats) -> NDArray[np.uint8]:
    """Encode linear light, clipped to 0 to 1, as 8-bit sRGB (IEC 61966-2-1).

    The light is first rounded to steps of 1 / 65535, so that a level may differ by one from the exact result.
    """
    index = np.clip(linear * np.float32(65535) + np.float32(0.5), 0, 65535).astype(np.uint16)
    return _level_of_linear()[index]


@cache
def _linear_of_level() -> Floats:
    """Return the linear light (256,) of each 8-bit level."""
    x = np.arange(256) / 255
    return np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4).astype(np.float32)


@cache
def _level_of_linear() -> NDArray[np.uint8]:
    """Return the 8-bit level of each of 65,536 steps of linear light, (65536,)."""
    x = np.arange(65536) / 65535
    return (np.where(x <= 0.0031308, 12.92 * x, 1.055 * x ** (1 / 2.4) - 0.055) * 255 + 0.5).astype(np.uint8)
