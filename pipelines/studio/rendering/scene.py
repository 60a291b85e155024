"""Everything about an image but the person: the environment, directional lights, the background and the colour."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pipelines.studio.rendering.environment import Environment

Floats = NDArray[np.float32]
Colour = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class DirectionalLight:
    """A light at an infinite distance."""

    direction: Colour
    """Unit vector from the head to the light, world axes."""
    colour: Colour
    """Linear red, green and blue; with 1, a white surface that faces the light has the radiance 1."""


@dataclass(frozen=True, slots=True)
class ColourLook:
    """The way from linear light to the numbers of a camera's image; all images of a sample share one."""

    exposure: float = 1.0
    """Factor of the linear light."""
    white_balance: Colour = (1.0, 1.0, 1.0)
    """Factors of red, green and blue."""
    contrast: float = 1.0
    """Exponent about middle grey (0.18); 1 changes nothing."""
    saturation: float = 1.0
    """Distance of colours from grey; 1 changes nothing."""
    knee: float = 0.55
    """Linear light from which the curve bends towards white, 0 to 1."""
    shot_noise: float = 0.0
    """Variance of the sensor's noise per unit of light."""
    read_noise: float = 0.0
    """Standard deviation of the sensor's noise in the dark."""
    vignette: float = 0.0
    """Share of the light that the corners of the image lose."""


@dataclass(frozen=True, slots=True)
class StudioScene:
    """Light, background and colour of a set of images of one person."""

    environment: Environment
    """Light from all around."""
    yaw: float = 0.0
    """Turn of the environment about the world's +Y, radians."""
    intensity: float = 1.0
    """Factor of the environment's light on the person."""
    key: DirectionalLight | None = None
    """Light that casts shadows."""
    rim: DirectionalLight | None = None
    """Light without shadows, mostly from behind."""
    background_blur: float = 0.03
    """Standard deviation of the background's blur, radians."""
    background_gain: float = 1.0
    """Factor of the background's light."""
    look: ColourLook = field(default_factory=ColourLook)
    """Way from light to numbers."""
    noise_seed: int = 0
    """Seed of the sensor's noise; renderers add the number of the view to it."""

    def rotation(self) -> Floats:
        """Return the rotation (3, 3) from the world's axes to the environment's."""
        c, s = np.cos(self.yaw), np.sin(self.yaw)
        return np.array([[c, 0, -s], [0, 1, 0], [s, 0, c]], np.float32)
