"""Natural colours of hair: pigment from black to blond, red, and grey with age."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from pipelines.studio.people.figure import AgeBand

Image = NDArray[np.uint8]
Floats = NDArray[np.float32]
COLOURS: dict[str, tuple[float, float, float]] = {
    "black": (12, 1, 1),
    "dark brown": (20, 4, 6),
    "brown": (30, 7, 12),
    "light brown": (42, 8, 18),
    "blond": (62, 5, 24),
    "red": (40, 20, 26),
    "grey": (55, 0, 2),
    "white": (78, 0, 3),
}
"""Name → CIELAB colour."""
FIRST_DARK = 5
"""First tone of skin whose hair is black or dark brown unless it is grey."""


def draw_hair_colour(g: np.random.Generator, tone: int, age: AgeBand | None) -> str:
    """Draw a name of ``COLOURS``.

    Args:
        g: Random generator.
        tone: Tone of the skin, 0 to 9.
        age: Age, which decides how often hair is grey.
    """
    if g.random() < {"young": 0.01, "middle": 0.15, "old": 0.7}[age or "middle"]:
        return str(g.choice(["grey", "white"], p=[0.65, 0.35]))
    if tone >= FIRST_DARK:
        return str(g.choice(["black", "dark brown"], p=[0.75, 0.25]))
    names = ["black", "dark brown", "brown", "light brown", "blond", "red"]
    return str(g.choice(names, p=[0.17, 0.22, 0.24, 0.16, 0.16, 0.05]))


BLACK = 1.0
"""Lightness up to which a texture shows no hair."""
PALER, DARKER = 16.0, 30.0
"""Largest distances of a strand's lightness from the mean: textures of hair have a few white lines."""


def recolour(texture: Image, colour: tuple[float, float, float], contrast: float = 0.8, fullness: float = 1.0) -> Image:
    """Return a texture of hair (H, W, 4) with another mean colour; the strands keep their lightness around it.

    Args:
        texture: (H, W, 4) sRGB and alpha.
        colour: CIELAB colour of the mean.
        contrast: Factor of the strands' differences in lightness.
        fullness: Factor of alpha: above 1, strands are thicker and layers of them hide each other.
    """
    lab = cv2.cvtColor(texture[..., :3].astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    solid = (texture[..., 3] > 128) & (lab[..., 0] > BLACK)
    mean = lab[solid if solid.any() else slice(None)].reshape(-1, 3).mean(0)
    out = np.empty_like(lab)
    out[..., 0] = colour[0] + contrast * (lab[..., 0] - mean[0]).clip(-DARKER, PALER) * np.clip(
        colour[0] / 40, 0.4, 1.2
    )
    out[..., 1:] = np.array(colour[1:], np.float32)
    rgb = cv2.cvtColor(np.clip(out, [2, -60, -60], [98, 60, 60]).astype(np.float32), cv2.COLOR_LAB2RGB)
    alpha = (texture[..., 3:] * fullness).clip(0, 255).astype(np.uint8)
    return np.concatenate([(rgb.clip(0, 1) * 255 + 0.5).astype(np.uint8), alpha], 2)
