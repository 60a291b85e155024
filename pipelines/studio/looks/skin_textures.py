"""Skin textures: a base map with its baked shading flattened, a person's tone, pores, freckles and moles."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Image = NDArray[np.uint8]
N_TONES = 10
"""Number of tones, from light to dark."""
LIGHTEST, DARKEST = (75.0, 9.0, 14.0), (29.0, 9.0, 10.0)
"""CIELAB colours of the first and the last tone; a* and b* swell between them. Measured skin is seldom lighter."""
FLATTENED = 0.55
"""Share of the low frequencies of lightness that is taken away: photographs have their light baked in."""
LOW_FREQUENCY = 90.0
"""Standard deviation of what counts as shading, pixels of the map."""
COARSE = 8
"""Factor by which a map is reduced before its shading is measured: a wide blur of the whole map takes a second."""
PORE = 1.3
"""Standard deviation of pores, pixels of the map (0.5 mm)."""


def tone_colour(tone: float) -> Floats:
    """Return the CIELAB colour (3,) of a tone; steps of lightness are even.

    Args:
        tone: 0 (lightest) to 9 (darkest).
    """
    t = float(np.clip(tone / (N_TONES - 1), 0, 1))
    lab = (1 - t) * np.array(LIGHTEST) + t * np.array(DARKEST)
    swell = 4 * t * (1 - t)
    return (lab + swell * np.array([0, 6.0, 8.0])).astype(np.float32)


def skin_colours(base: Image, face: tuple[slice, slice], tone: float, g: np.random.Generator) -> Floats:
    """Return a person's skin as CIELAB colours (H, W, 3) from a base map.

    Args:
        base: (H, W, 4) map, sRGB and alpha.
        face: Rows and columns of the middle of the face, whose median colour becomes that of the tone.
        tone: 0 (lightest) to 9 (darkest).
        g: Random generator of the details.
    """
    lab = np.asarray(cv2.cvtColor(base[..., :3].astype(np.float32) / 255, cv2.COLOR_RGB2LAB), np.float32)
    low = shading(lab[..., 0])
    lab[..., 0] -= FLATTENED * (low - np.median(low[face]))
    wanted, found = tone_colour(tone), np.median(lab[face].reshape(-1, 3), axis=0)
    contrast = float(np.clip(wanted[0] / max(found[0], 20.0), 0.7, 1.25))
    lab = (lab - found) * np.array([contrast, 1, 1], np.float32) + wanted
    lab[..., 0] += pores(lab.shape[:2], g) * g.uniform(0.5, 1.3)
    lab[..., 1] += blotches(lab.shape[:2], g) * g.uniform(0.3, 1.4)
    spots = freckles(lab.shape[:2], g, int(g.integers(0, 1500) if g.random() < 0.25 else g.integers(2, 14)))
    lab -= spots[..., None] * np.array([9.0, -2.0, -3.0], np.float32) * g.uniform(0.5, 1.2)
    return np.asarray(lab, np.float32)


def encode_skin(lab: Floats, alpha: Image) -> Image:
    """Return the texture (H, W, 4) of CIELAB colours (H, W, 3) with an alpha (H, W, 1)."""
    rgb = cv2.cvtColor(np.clip(lab, [0, -60, -60], [100, 60, 60]).astype(np.float32), cv2.COLOR_LAB2RGB)
    return np.concatenate([(rgb.clip(0, 1) * 255 + 0.5).astype(np.uint8), alpha], 2)


def shading(lightness: Floats) -> Floats:
    """Return the low frequencies (H, W) of a map's lightness (H, W)."""
    height, width = lightness.shape
    small = cv2.resize(lightness, (width // COARSE, height // COARSE), interpolation=cv2.INTER_AREA)
    soft = cv2.GaussianBlur(small, (0, 0), LOW_FREQUENCY / COARSE)
    return np.asarray(cv2.resize(soft, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)


def pores(shape: tuple[int, ...], g: np.random.Generator) -> Floats:
    """Return the lightness of pores (H, W) about 0, standard deviation 1."""
    fine = g.standard_normal(shape).astype(np.float32)
    band = cv2.GaussianBlur(fine, (0, 0), PORE) - cv2.GaussianBlur(fine, (0, 0), 2 * PORE)
    return np.asarray(band / band.std(), np.float32)


def blotches(shape: tuple[int, ...], g: np.random.Generator) -> Floats:
    """Return soft patches of redness (H, W) about 0, standard deviation 1."""
    coarse = g.standard_normal((shape[0] // 24 + 2, shape[1] // 24 + 2)).astype(np.float32)
    soft = cv2.resize(cv2.GaussianBlur(coarse, (0, 0), 1.0), shape[1::-1], interpolation=cv2.INTER_CUBIC)
    return np.asarray((soft - soft.mean()) / soft.std(), np.float32)


def freckles(shape: tuple[int, ...], g: np.random.Generator, count: int) -> Floats:
    """Return a mask (H, W) of round soft spots, 0 to 1."""
    mask = np.zeros(shape, np.float32)
    for y, x, radius in zip(
        g.integers(0, shape[0], count), g.integers(0, shape[1], count), g.uniform(1, 2.6, count), strict=True
    ):
        cv2.circle(mask, (int(x), int(y)), round(float(radius)), float(g.uniform(0.3, 1)), -1)
    return np.asarray(cv2.GaussianBlur(mask, (0, 0), 1.0), np.float32)
