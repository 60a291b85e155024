"""Random lighting and backgrounds of studio images."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pipelines.studio.renderer import Light, Lighting

Floats = NDArray[np.float32]


def random_lighting(g: np.random.Generator) -> Lighting:
    """Draw a key light in front, a weaker light from the side and sometimes one from behind, in a world with +Y up."""

    def light(yaw: float, pitch: float, strength: float, warmth: float, shadows: bool = False) -> Light:
        direction = (np.sin(yaw) * np.cos(pitch), np.sin(pitch), np.cos(yaw) * np.cos(pitch))
        colour = strength * np.array([1 + warmth, 1, 1 - warmth])
        return Light(tuple(map(float, direction)), tuple(map(float, colour)), shadows)  # type: ignore[arg-type]

    side = float(g.choice([-1, 1]))
    lights = [
        light(
            side * g.uniform(0.1, 1.0), g.uniform(0.1, 0.9), g.uniform(0.5, 0.85), g.normal(scale=0.06), shadows=True
        ),
        light(-side * g.uniform(0.6, 1.5), g.uniform(-0.1, 0.6), g.uniform(0.08, 0.35), g.normal(scale=0.1)),
    ]
    if g.random() < 0.35:
        lights.append(light(-side * g.uniform(2.0, 2.8), 0.4, g.uniform(0.3, 0.7), g.normal(scale=0.1)))
    sky, tint = g.uniform(0.28, 0.45), g.normal(scale=0.03)
    return Lighting(tuple(lights), sky=(sky + tint, sky, sky - tint), ground=(0.6 * sky,) * 3)


def lighting_in_head_frame(lighting: Lighting, head_to_world: NDArray[np.float64]) -> Lighting:
    """Return the world's lighting in the axes of a posed head; ambient light keeps its direction relative to the head.

    Args:
        lighting: Lighting in the world's axes.
        head_to_world: (3, 4) pose of the head.
    """
    turn = head_to_world[:, :3].T
    moved = [replace(light, direction=tuple((turn @ np.array(light.direction)).tolist())) for light in lighting.lights]
    return replace(lighting, lights=tuple(moved))


def random_background(g: np.random.Generator, width: int, height: int | None = None) -> Floats:
    """Draw a background: a wall, a soft glow and, in half of the cases, blurred shapes.

    Args:
        g: Random generator.
        width: Width, pixels.
        height: Height, pixels; None for a square.

    Returns:
        (height, width, 3) linear light from 0 to 1.
    """
    height = height or width
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    y, x = y / height, x / width
    base = np.float32(g.uniform(0.03, 0.55)) * (1 + g.normal(scale=0.12, size=3)).astype(np.float32)
    glow = np.exp(-(((x - g.uniform(0.2, 0.8)) / 0.5) ** 2 + ((y - g.uniform(0.2, 0.8)) / 0.5) ** 2))
    wall = base * (0.7 + 0.5 * glow[..., None])
    if g.random() < 0.5:
        for _ in range(int(g.integers(3, 8))):
            colour = g.uniform(0.02, 0.6, 3).astype(np.float32)
            rx, ry = g.uniform(0.08, 0.35, 2)
            distance = np.hypot((x - g.uniform(0, 1)) / rx, (y - g.uniform(0, 1)) / ry)
            share = (0.6 / (1 + np.exp((distance - 1) * 12)))[..., None]
            wall = wall * (1 - share) + share * colour
    return np.clip(wall, 0, 1).astype(np.float32)
