"""Made environments, for those who have no environment maps: rooms with windows and lamps, and open skies."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipelines.studio.rendering.environment import Environment, environment_from_radiance, map_directions

Floats = NDArray[np.float64]
HEIGHT, WIDTH = 128, 256
"""Size of a made map, pixels."""


def made_environment(g: np.random.Generator) -> Environment:
    """Draw a room (three of four) or an open sky."""
    directions, _ = map_directions(HEIGHT, WIDTH)
    indoors = g.random() < 0.75
    radiance = _room(g, directions) if indoors else _sky(g, directions)
    return environment_from_radiance("made-room" if indoors else "made-sky", radiance.clip(1e-4).astype(np.float32))


def _room(g: np.random.Generator, directions: Floats) -> Floats:
    """Return the radiance of a box seen from inside, with windows and lamps on its sides."""
    half = np.array([g.uniform(1.5, 4), g.uniform(1.2, 1.8), g.uniform(1.5, 4)])
    distance = half / np.abs(directions).clip(1e-6)
    side = distance.argmin(-1)
    place = directions * distance.min(-1)[..., None]
    wall = g.uniform(0.15, 0.6) * (1 + g.normal(scale=0.1, size=3))
    ceiling, floor = wall * g.uniform(1.0, 1.5), np.array([1.0, 0.8, 0.6]) * g.uniform(0.05, 0.3)
    radiance = np.where((side == 1)[..., None], np.where(directions[..., 1:2] > 0, ceiling, floor), wall)
    corner = np.sort(np.abs(place) / half, axis=-1)[..., 1]
    radiance = radiance * (1 - 0.45 * corner**4)[..., None]
    for _ in range(int(g.integers(2, 7))):
        colour, axis = g.uniform(0.02, 0.4) * (1 + g.uniform(-0.5, 0.5, 3)), int(g.choice([0, 2]))
        radiance = _patch(
            g, radiance, place, half, (side == axis) & (place[..., axis] > 0), colour, g.uniform(0.2, 0.9)
        )
    for _ in range(int(g.integers(1, 4))):
        axis, warm = int(g.choice([0, 1, 2])), g.normal(scale=0.15)
        bright = g.uniform(4, 18) * np.array([1 + warm, 1, 1 - warm]).clip(0.3)
        here = (side == axis) & (place[..., axis] * (1 if axis == 1 else g.choice([-1, 1])) > 0)
        radiance = _patch(g, radiance, place, half, here, bright, g.uniform(0.15, 0.5))
    return radiance


def _patch(
    g: np.random.Generator,
    radiance: Floats,
    place: Floats,
    half: Floats,
    here: NDArray[np.bool_],
    colour: Floats,
    size: float,
) -> Floats:
    """Return the radiance with a rectangle of one colour on a side of the room."""
    inside = here.copy()
    for axis in range(3):
        centre = g.uniform(-0.6, 0.6)
        flat = np.abs(np.abs(place[..., axis]) - half[axis]) < 1e-6
        inside &= flat | (np.abs(place[..., axis] / half[axis] - centre) < size * g.uniform(0.5, 1))
    return np.where(inside[..., None], colour, radiance)


def _sky(g: np.random.Generator, directions: Floats) -> Floats:
    """Return the radiance of a sky with a hazy sun over ground with blurred shapes on the horizon."""
    up = directions[..., 1]
    zenith = np.array([0.35, 0.55, 1.0]) * g.uniform(0.5, 1.2)
    horizon = np.array([1.0, 0.95, 0.9]) * g.uniform(0.6, 1.4)
    sky = horizon + (zenith - horizon) * (up.clip(0) ** 0.5)[..., None]
    elevation, azimuth = g.uniform(0.15, 1.2), g.uniform(0, 2 * np.pi)
    sun = np.array([np.cos(elevation) * np.sin(azimuth), np.sin(elevation), np.cos(elevation) * np.cos(azimuth)])
    glow = np.exp((directions @ sun - 1) / g.uniform(0.004, 0.05))
    sky = sky + glow[..., None] * np.array([1.0, 0.9, 0.75]) * g.uniform(6, 40)
    ground = g.uniform(0.05, 0.3) * np.array([1.0, g.uniform(0.85, 1.2), g.uniform(0.6, 0.9)])
    angle = np.arctan2(directions[..., 0], directions[..., 2])
    skyline = sum(g.uniform(0, 0.12) * np.sin(k * angle + g.uniform(0, 6)) for k in range(1, 9))
    hill = 1 / (1 + np.exp((up - np.asarray(skyline)) * 40))
    return sky * (1 - hill[..., None]) + ground * hill[..., None]
