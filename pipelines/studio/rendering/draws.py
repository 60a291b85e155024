"""Random scenes and cameras."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipelines.media.cameras import Camera, aimed_camera
from pipelines.studio.rendering.environment import Environment, EnvironmentMapError, harmonic_basis, read_environment
from pipelines.studio.rendering.rooms import made_environment
from pipelines.studio.rendering.scene import ColourLook, DirectionalLight, StudioScene

FOCAL_MM = (24.0, 135.0)
"""Shortest and longest focal length, millimetres on a sensor that is 36 mm wide."""
SENSOR_MM = 36.0
"""Width of that sensor."""
NEAREST = 0.30
"""Least distance of a camera from the head's origin, metres."""
KEY_SHARE, RIM_SHARE = 0.5, 0.25
"""Shares of scenes with a key light and with a rim light."""
WHITE_LEVEL = 0.78
"""Mean radiance after exposure of a white surface in the light that falls on the face; light skin reflects half."""
KEY_WEIGHT = 0.85
"""Weight of the key light in that exposure: less than 1, because it lights a part of the face alone."""
BALANCED = (0.6, 1.0)
"""Least and largest share of the light's colour that the white balance takes away."""
EXPOSURE_SPREAD, LARGEST_GAIN = 0.22, 1.35
"""Standard deviation of the exposure's logarithm; largest factor, because cameras spare faces."""


def find_environments(assets: Path | None) -> tuple[Path, ...]:
    """Return the environment maps (.hdr) of a kit's folder ``hdri``, sorted.

    Args:
        assets: Folder of the kit; None for no kit.

    Raises:
        EnvironmentMapError: The folder has no map.
    """
    if assets is None:
        return ()
    maps = tuple(sorted((assets / "hdri").glob("*.hdr")))
    if not maps:
        raise EnvironmentMapError(f"{assets / 'hdri'}: no environment map (.hdr) in it; name a kit that has some")
    return maps


def random_scene(g: np.random.Generator, maps: tuple[Path, ...] = ()) -> StudioScene:
    """Draw light, background and colour, one draw for all images of a sample.

    Args:
        g: Random generator.
        maps: Environment maps to choose from; without any, a room or a sky is made.

    Raises:
        EnvironmentMapError: A map is damaged.
    """
    environment = _kept_environment(maps[int(g.integers(len(maps)))]) if maps else made_environment(g)
    yaw = float(g.uniform(-np.pi, np.pi))
    fill = face_light(environment, yaw)
    ambient = max(float(fill.mean()), 0.2 * float(environment.radiance.mean()))
    key = _light(g, ambient * g.uniform(0.4, 1.6), 1.1, 0.9) if g.random() < KEY_SHARE else None
    rim = _light(g, ambient * g.uniform(0.5, 1.5), 2.7, 0.5, 0.5) if g.random() < RIM_SHARE else None
    light = fill.clip(0.1 * ambient) + (KEY_WEIGHT * np.array(key.colour) if key else 0)
    total = max(float(light.mean()), ambient)
    gain = min(float(np.exp(g.normal(scale=EXPOSURE_SPREAD))), LARGEST_GAIN)
    return StudioScene(
        environment,
        yaw,
        key=key,
        rim=rim,
        background_blur=float(np.exp(g.uniform(np.log(0.008), np.log(0.06)))),
        background_gain=float(np.exp(g.normal(scale=0.3))),
        look=random_look(g, WHITE_LEVEL / total * gain, light / light.mean()),
        noise_seed=int(g.integers(2**31)),
    )


@lru_cache(maxsize=32)
def _kept_environment(path: Path) -> Environment:
    """Read a map and keep it with its filtered layers, which take half a second, for the next people."""
    return read_environment(path)


def face_light(environment: Environment, yaw: float) -> NDArray[np.float64]:
    """Return the radiance (3,) of a white surface that faces +z (a face, looking straight ahead) in an environment.

    Args:
        environment: The environment.
        yaw: Its turn, radians.
    """
    front = np.array([[-np.sin(yaw), 0, np.cos(yaw)]])
    return np.asarray((harmonic_basis(front) @ environment.harmonics)[0], np.float64)


def random_look(g: np.random.Generator, exposure: float, light: NDArray[np.float64]) -> ColourLook:
    """Draw a camera's way from light to numbers; its white balance takes away most of the light's colour.

    Args:
        g: Random generator.
        exposure: Factor of the light.
        light: (3,) colour of the light on the face, its mean 1.
    """
    warmth, tint = g.normal(loc=0.03, scale=0.06), g.normal(scale=0.02)
    red, green, blue = (light ** -g.uniform(*BALANCED)).clip(0.5, 2.0)
    return ColourLook(
        exposure=exposure,
        white_balance=(float(red * (1 + warmth)), float(green * (1 - tint)), float(blue * (1 - warmth))),
        contrast=float(g.uniform(0.95, 1.2)),
        saturation=float(g.uniform(0.85, 1.1)),
        knee=float(g.uniform(0.4, 0.7)),
        shot_noise=float(10 ** g.uniform(-5, -3.2)),
        read_noise=float(10 ** g.uniform(-3.5, -2.3)),
        vignette=float(g.uniform(0, 0.25)),
    )


def random_portrait_camera(
    g: np.random.Generator, size: int, target: NDArray[np.float64], spread: float = 0.5
) -> Camera:
    """Draw a camera in front of a head.

    Args:
        g: Random generator.
        size: Side of the image, pixels.
        target: (3,) point at which it looks, world metres.
        spread: Standard deviation of its azimuth, radians.
    """
    focal = float(np.exp(g.uniform(*np.log(FOCAL_MM))))
    span = float(g.uniform(0.32, 0.6))
    return portrait_camera(float(g.normal(scale=spread)), float(g.normal(scale=0.12)), focal, span, size, target)


def portrait_camera(
    azimuth: float, elevation: float, focal_mm: float, span: float, size: int, target: NDArray[np.float64]
) -> Camera:
    """Return a camera whose distance follows from its focal length and the width that it shows.

    Args:
        azimuth: Angle around the head, radians; positive on the head's left.
        elevation: Angle above the horizon, radians.
        focal_mm: Focal length, millimetres on a sensor 36 mm wide.
        span: Width that the image shows at the target, metres; wider if the camera would come too near.
        size: Side of the image, pixels.
        target: (3,) point at which it looks, world metres.
    """
    distance = max(span * focal_mm / SENSOR_MM, NEAREST)
    return aimed_camera(
        azimuth, elevation, distance=distance, target=target, span=distance * SENSOR_MM / focal_mm, size=size
    )


def _light(g: np.random.Generator, strength: float, yaw: float, pitch: float, least: float = 0.0) -> DirectionalLight:
    """Draw a light up to ``yaw`` from the front on one side, above the head by ``least`` to ``pitch`` of a radian."""
    side, warm = float(g.choice([-1, 1])), g.normal(scale=0.1)
    turn = side * (g.uniform(0.1, yaw) if least == 0 else g.uniform(yaw - 0.5, yaw + 0.3))
    lift = g.uniform(least / 4, pitch)
    direction = (np.sin(turn) * np.cos(lift), np.sin(lift), np.cos(turn) * np.cos(lift))
    colour = strength * np.array([1 + warm, 1, 1 - warm])
    return DirectionalLight((direction[0], direction[1], direction[2]), (colour[0], colour[1], colour[2]))
