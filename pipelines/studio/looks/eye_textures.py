"""Textures of eyes: irises and pupils of a person's own size and colour, and a white of the eye that is not white."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
Floats = NDArray[np.float32]
CENTRES = ((0.2930, 0.7017), (0.7063, 0.2957))
"""Centres of the irises in a kit's texture of eyes: across and down, as shares of its sides."""
IRIS, PUPIL = 0.1133, 0.0293
"""Radii of irises and pupils in that texture, as shares of its side."""
REACH = 0.2
"""Radius of what is changed, as a share of the side."""
CHROMA = {"brown": (0.42, 0.85), "": (0.6, 0.6)}
"""Beginning of the name of a texture → factors of a* and b* of irises: those of kits are brighter than real ones."""


def eye_texture(texture: Image, name: str, tone: float, g: np.random.Generator) -> Image:
    """Return a person's texture of eyes (H, H, 4).

    Args:
        texture: (H, H, 4) texture of a kit, sRGB and alpha.
        name: Name of its colour, for example brown_eye.
        tone: Tone of the skin, 0 (lightest) to 9: the white of the eye is a little darker and yellower with it.
        g: Random generator of sizes and colours.
    """
    size, pupil, ring = float(g.uniform(0.94, 1.06)), float(g.uniform(0.3, 0.52)), float(g.uniform(0.0, 8.0))
    shift = g.normal(scale=(4.0, 2.0, 4.0)).astype(np.float32)
    side = texture.shape[0]
    out = texture.copy()
    out[..., :3] = _whites(texture[..., :3], tone, g)
    for across, down in CENTRES:
        reach = int(REACH * side)
        left, top = int(across * side) - reach, int(down * side) - reach
        window = (slice(max(top, 0), top + 2 * reach), slice(max(left, 0), left + 2 * reach))
        centre = (across * side - window[1].start, down * side - window[0].start)
        out[window] = _iris(out[window], centre, side, size, pupil)
        radius = _radii(out[window].shape[:2], centre) / (IRIS * side * size)
        out[window][..., :3] = _colour(out[window][..., :3], radius, pupil, name, shift, ring)
    return out


def _iris(window: Image, centre: tuple[float, float], side: int, size: float, pupil: float) -> Image:
    """Return a window (h, w, 4) whose iris is ``size`` times as large, its pupil a share ``pupil`` of it."""
    radius = _radii(window.shape[:2], centre)
    wanted = np.array([0, pupil * size * IRIS, size * IRIS, REACH * 0.9, 2 * REACH]) * side
    found = np.array([0, PUPIL, IRIS, REACH * 0.9, 2 * REACH]) * side
    factor = np.interp(radius, wanted, found) / radius.clip(1e-3)
    y, x = np.indices(window.shape[:2], np.float32)
    from_x, from_y = ((c + (axis - c) * factor).astype(np.float32) for axis, c in ((x, centre[0]), (y, centre[1])))
    moved = cv2.remap(window, from_x, from_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(moved, np.uint8)


def _colour(rgb: Image, radius: Floats, pupil: float, name: str, shift: Floats, ring: float) -> Image:
    """Return a window (h, w, 3) whose iris is duller, shifted in colour and dark at its rim, where ``radius`` is 1."""
    lab = cv2.cvtColor(rgb.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    inside = (np.clip((1.05 - radius) / 0.1, 0, 1) * np.clip((radius - pupil * 0.9) / (0.2 * pupil), 0, 1))[..., None]
    chroma = next(factors for start, factors in CHROMA.items() if name.startswith(start))
    mine = lab * np.array([0.92, *chroma], np.float32) + shift
    mine[..., 0] -= ring * np.clip((radius - 0.75) / 0.25, 0, 1)
    lab = lab + inside.astype(np.float32) * (mine - lab)
    lab[..., 0] = np.clip(lab[..., 0], 1, 100)
    rgb_new = cv2.cvtColor(lab.astype(np.float32), cv2.COLOR_LAB2RGB)
    return (np.clip(rgb_new, 0, 1) * 255 + 0.5).astype(np.uint8)


def _whites(rgb: Image, tone: float, g: np.random.Generator) -> Image:
    """Return eyes (H, W, 3) in the tint of a person's whites, in light as well as in dark parts."""
    dark = 1 - 0.012 * tone - float(g.uniform(0, 0.06))
    tint = np.array([1.0, 1.0 - 0.003 * tone, 0.99 - 0.008 * tone - g.uniform(0, 0.02)]) * dark
    table = (np.arange(256)[:, None] * tint + 0.5).clip(0, 255).astype(np.uint8)
    return np.stack([table[rgb[..., c], c] for c in range(3)], -1)


def _radii(shape: tuple[int, ...], centre: tuple[float, float]) -> Floats:
    y, x = np.indices(shape, np.float32)
    return np.hypot(x - np.float32(centre[0]), y - np.float32(centre[1])).astype(np.float32)
