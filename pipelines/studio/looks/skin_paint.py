"""Paint on skins: the scalp under hair, stubble and beards, and make-up, placed by positions on the face."""

from __future__ import annotations

from collections.abc import Mapping

import cv2
import numpy as np
from numpy.typing import NDArray

from pipelines.studio.looks.skin_places import NOWHERE

Floats = NDArray[np.float32]
Colour = tuple[float, float, float]
HAIRLINE = ([-0.125, -0.1, -0.07, -0.045, -0.02, 0.03], [-0.065, -0.03, 0.035, 0.05, 0.066, 0.074])
"""Depths and heights of the line of hair around the head, metres."""
EAR, EAR_RADIUS = (0.08, -0.005, -0.085), 0.034
"""Place and radius of an ear, metres."""
CHEEK_LINE = ([0.0, 0.02, 0.03, 0.05, 0.068, 0.08], [-0.043, -0.043, -0.05, -0.05, -0.02, -0.005])
"""Distances from the middle and heights of the upper end of a beard, metres."""
LIPS = (-0.0672, 0.0255, 0.0112)
"""Height of the middle of the lips, half of their width and of their height, metres."""
BEARD_DEPTH = {"shadow": 0.35, "stubble": 0.6, "moustache": 0.85, "goatee": 0.85, "full": 0.9}
"""Style of a beard → share of the skin that it hides."""
LIPSTICKS: tuple[Colour, ...] = ((38, 48, 22), (45, 42, 12), (30, 36, 14), (55, 30, 14), (48, 34, 4))
"""CIELAB colours of lipsticks: red, rose, wine, nude, pink."""
SHADOWS: tuple[Colour, ...] = ((32, 6, 6), (40, 12, 14), (38, 10, -8), (48, 6, 20), (28, 1, -4))
"""CIELAB colours of eye shadow: brown, copper, plum, bronze, smoke."""


def paint_skin(lab: Floats, places: Floats, styles: Mapping[str, str], hair: Colour, g: np.random.Generator) -> Floats:
    """Return a skin (H, W, 3) with what its person's styles paint on it.

    Args:
        lab: (H, W, 3) CIELAB skin.
        places: (h, w, 3) positions of the face on a reduced map, metres.
        styles: Styles of the person: ``beard``, ``make_up``, ``hair``.
        hair: CIELAB colour of its hair.
        g: Random generator of strengths and strands.
    """
    size = (lab.shape[1], lab.shape[0])
    follicles, strands = _noise(lab.shape[:2], g, (0.5, 0.5)), _noise(lab.shape[:2], g, (4.0, 0.8))
    out, shade = lab, np.array([0.85 * hair[0], *hair[1:]], np.float32)

    def lay(colour: Colour | Floats, share: Floats, grain: Floats | float = 0.0) -> None:
        nonlocal out
        alpha = np.asarray(cv2.resize(share, size, interpolation=cv2.INTER_LINEAR), np.float32)
        alpha = np.clip(alpha * (1 + grain), 0, 0.97)[..., None]
        out = out + alpha * (np.asarray(colour, np.float32) - out)

    scalp = scalp_share(places)
    if "hair" in styles:
        lay(shade, 0.9 * scalp, 0.25 * follicles)
    elif "beard" in styles:
        lay(shade, np.float32(g.uniform(0.0, 0.35)) * scalp, 0.5 * follicles)
    if beard := styles.get("beard"):
        long = BEARD_DEPTH[beard] > 0.7
        share = BEARD_DEPTH[beard] * np.float32(g.uniform(0.8, 1.05)) * beard_share(places, beard)
        lay(shade + np.array([0 if long else 8, 0, -2], np.float32), share, 0.25 * strands if long else 0.4 * follicles)
        if long:
            out[..., 0] += 6 * strands * cv2.resize(share, size)
    make_up = styles.get("make_up", "")
    if "lips" in make_up:
        lay(LIPSTICKS[int(g.integers(len(LIPSTICKS)))], np.float32(g.uniform(0.35, 0.8)) * lip_share(places))
    if "eyes" in make_up:
        lay(SHADOWS[int(g.integers(len(SHADOWS)))], np.float32(g.uniform(0.2, 0.55)) * lid_share(places))
    if make_up:
        blush = np.float32(g.uniform(0.0, 7.0)) * _blob(places, (0.05, -0.03), (0.02, 0.016))
        out = out + cv2.resize(blush, size)[..., None] * np.array([-0.2, 1, 0.3], np.float32)
    return np.asarray(out, np.float32)


def skin_gloss(places: Floats, styles: Mapping[str, str], roughness: float) -> NDArray[np.uint8]:
    """Return a map of roughness (h, w) from 0 to 255: wet lips, an oily nose and forehead, dull hair.

    Args:
        places: (h, w, 3) positions of the face on a reduced map, metres.
        styles: Styles of the person.
        roughness: Roughness of the cheeks, 0 to 1.
    """
    x, y = np.abs(places[..., 0]), places[..., 1]
    oily = _smooth((0.022 - x) / 0.015) * _smooth((y + 0.055) / 0.01) * (places[..., 2] > -0.03)
    dull = scalp_share(places) if "hair" in styles else np.zeros_like(x)
    if beard := styles.get("beard"):
        dull = np.maximum(dull, BEARD_DEPTH[beard] * beard_share(places, beard))
    rough = roughness - 0.16 * lip_share(places) - 0.07 * oily + 0.3 * dull
    return (255 * rough.clip(0.2, 0.95)).astype(np.uint8)


def scalp_share(places: Floats) -> Floats:
    """Return the share (h, w) of hair on a scalp at positions (h, w, 3)."""
    x, y, z = np.moveaxis(places, -1, 0)
    line = np.interp(z, *HAIRLINE)
    share = _smooth((y - line) / 0.016) * _off_ears(places)
    return np.where(x < NOWHERE / 2, share, 0).astype(np.float32)


def beard_share(places: Floats, style: str) -> Floats:
    """Return the share (h, w) of hair of a beard at positions (h, w, 3).

    Args:
        places: Positions, metres.
        style: A key of ``BEARD_DEPTH``.
    """
    x, y, z = np.abs(places[..., 0]), places[..., 1], places[..., 2]
    share = (
        _smooth((np.interp(x, *CHEEK_LINE) - y) / 0.012) * _smooth((z + 0.088) / 0.015) * _smooth((y + 0.125) / 0.02)
    )
    share *= (1 - lip_share(places)) * _off_ears(places)
    mustache = _smooth((0.034 - x) / 0.006) * _smooth((y + 0.066) / 0.006)
    goatee = _smooth((0.03 - x) / 0.006) * _smooth((0.03 + z) / 0.02)
    if style == "moustache":
        share *= mustache
    if style == "goatee":
        share *= np.maximum(mustache, goatee)
    return np.where(x < NOWHERE / 2, share, 0).astype(np.float32)


def lip_share(places: Floats) -> Floats:
    """Return the share (h, w) of the lips at positions (h, w, 3)."""
    height, half_width, half_height = LIPS
    across, down = places[..., 0] / half_width, (places[..., 1] - height) / half_height
    front = _smooth((places[..., 2] - 0.0) / 0.01)
    return (_smooth((1.12 - np.hypot(across, down)) / 0.3) * front).astype(np.float32)


def lid_share(places: Floats) -> Floats:
    """Return the share (h, w) of the upper lids at positions (h, w, 3)."""
    return (_blob(places, (0.032, 0.008), (0.017, 0.009)) * _smooth((places[..., 1] + 0.002) / 0.005)).astype(
        np.float32
    )


def _off_ears(places: Floats) -> NDArray[np.floating]:
    """Return a mask (h, w) that is 0 on the ears and 1 elsewhere."""
    ear = np.linalg.norm(np.abs(places) * [1, 0, 0] + places * [0, 1, 1] - np.array(EAR), axis=-1)
    return _smooth((ear - EAR_RADIUS) / 0.01)


def _blob(places: Floats, centre: tuple[float, float], radii: tuple[float, float]) -> Floats:
    """Return a soft spot (h, w) on both sides of the front of the face, 0 to 1."""
    across = (np.abs(places[..., 0]) - centre[0]) / radii[0]
    far = across**2 + ((places[..., 1] - centre[1]) / radii[1]) ** 2
    return (np.exp(-far) * (places[..., 2] > -0.06) * (places[..., 0] < NOWHERE / 2)).astype(np.float32)


def _noise(shape: tuple[int, ...], g: np.random.Generator, blur: tuple[float, float]) -> Floats:
    """Return noise (H, W) with standard deviation 1, blurred across and down."""
    fine = g.standard_normal(shape, np.float32)
    soft = cv2.GaussianBlur(fine, (0, 0), blur[0], sigmaY=blur[1])
    return np.asarray(soft / soft.std(), np.float32)


def _smooth(share: NDArray[np.floating]) -> NDArray[np.floating]:
    t = share.clip(0, 1)
    return t * t * (3 - 2 * t)
