"""Environment maps: reading, checking and filtering of equirectangular maps for diffuse and glossy light.

A map's middle looks along -z of its own axes, +y is up; column x of W has the azimuth 2 pi ((x + 0.5) / W - 0.5), row y
of H the elevation pi / 2 - pi (y + 0.5) / H.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
ROUGHNESS = (0.0, 0.25, 0.4, 0.6, 0.8, 1.0)
"""Roughness of the layers of a filtered map."""
LAYER = (64, 128)
"""Height and width of a layer, pixels."""
BRIGHTEST = 60.0
"""Largest radiance of a filtered map as a multiple of its mean: brighter points would be speckles of few pixels."""


class EnvironmentMapError(ValueError):
    """A file that is no environment map."""


@dataclass(frozen=True)
class Environment:
    """Light from all around a person."""

    name: str
    """Name, for the truth of an image."""
    radiance: Floats
    """(H, W, 3) linear radiance, W = 2 H."""

    @cached_property
    def harmonics(self) -> Floats:
        """Coefficients (9, 3) of the irradiance divided by pi in ``harmonic_basis``."""
        map_ = cv2.resize(self.radiance, (128, 64), interpolation=cv2.INTER_AREA)
        directions, solid_angle = map_directions(64, 128)
        lobe = np.repeat([1, 2 / 3, 1 / 4], [1, 3, 5])[:, None]
        return (np.einsum("hwb,hwc,hw->bc", harmonic_basis(directions), map_, solid_angle) * lobe).astype(np.float32)

    @cached_property
    def layers(self) -> Floats:
        """Radiance (6, h, w, 3) as surfaces of each ``ROUGHNESS`` reflect it, with h and w of ``LAYER``."""
        limit = BRIGHTEST * float(self.radiance.mean())
        limited = np.minimum(self.radiance, limit)
        sharp = cv2.resize(limited, LAYER[::-1], interpolation=cv2.INTER_AREA).astype(np.float32)
        return np.stack([sharp if r == 0 else _glossy(sharp, r) for r in ROUGHNESS]).astype(np.float32)

    def blurred(self, sigma: float) -> Floats:
        """Return the map (H, W, 3), limited in brightness, after a blur of a standard deviation in radians."""
        limited = np.minimum(self.radiance, 12 * float(self.radiance.mean()))
        pixels = max(sigma * len(limited) / np.pi, 1e-3)
        margin = min(int(4 * pixels) + 1, limited.shape[1])
        wide = np.concatenate([limited[:, -margin:], limited, limited[:, :margin]], axis=1)
        soft = cv2.GaussianBlur(wide, (0, 0), pixels, borderType=cv2.BORDER_REPLICATE)
        return np.ascontiguousarray(soft[:, margin : margin + limited.shape[1]], np.float32)


def read_environment(path: Path) -> Environment:
    """Read an equirectangular environment map in Radiance's format.

    Args:
        path: File whose image is twice as wide as high.

    Raises:
        EnvironmentMapError: The file is missing or damaged, its shape is another, or a value is negative or no number.
    """
    try:
        data = np.frombuffer(path.read_bytes(), np.uint8)
    except OSError as error:
        raise EnvironmentMapError(f"environment map {path}: {error.strerror}; name a Radiance file (.hdr)") from error
    return environment_from_radiance(path.stem, _decode(path, data), str(path))


def environment_from_radiance(name: str, radiance: NDArray[np.floating], source: str = "") -> Environment:
    """Check linear radiance and return its environment.

    Args:
        name: Name of the environment.
        radiance: (H, W, 3) linear radiance, W = 2 H.
        source: File, for errors; the name if empty.

    Raises:
        EnvironmentMapError: The shape is another, or a value is negative, infinite or no number.
    """
    where = f"environment map {source or name}"
    if radiance.ndim != 3 or radiance.shape[2] != 3 or radiance.shape[1] != 2 * radiance.shape[0]:
        raise EnvironmentMapError(f"{where}: its shape is {radiance.shape}; an equirectangular map has (H, 2 H, 3)")
    bad = ~np.isfinite(radiance) | (radiance < 0)
    if bad.any():
        y, x, _ = np.argwhere(bad)[0]
        raise EnvironmentMapError(
            f"{where}: pixel ({x}, {y}) is {radiance[y, x].tolist()}, {int(bad.sum())} values are negative or not "
            "finite; write the map again"
        )
    if not radiance.any():
        raise EnvironmentMapError(f"{where}: it is black; take a map with light in it")
    return Environment(name, np.ascontiguousarray(radiance, np.float32))


def _decode(path: Path, data: NDArray[np.uint8]) -> Floats:
    if not data[:10].tobytes().startswith((b"#?RADIANCE", b"#?RGBE")):
        raise EnvironmentMapError(f"environment map {path}: it is no Radiance file (.hdr), convert it to one")
    image = cv2.imdecode(data, cv2.IMREAD_ANYDEPTH | cv2.IMREAD_COLOR)
    if image is None or image.dtype != np.float32:
        raise EnvironmentMapError(f"environment map {path}: it is damaged or cut off; copy the file again")
    return image[..., ::-1].astype(np.float32)


def map_directions(height: int, width: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the unit directions (height, width, 3) and solid angles (height, width) of a map's pixels."""
    elevation = np.pi / 2 - (np.arange(height)[:, None] + 0.5) / height * np.pi
    azimuth = ((np.arange(width) + 0.5) / width - 0.5) * 2 * np.pi
    flat = np.cos(elevation)
    up = np.broadcast_to(np.sin(elevation), (height, width))
    directions = np.stack([np.sin(azimuth) * flat, up, -np.cos(azimuth) * flat], -1)
    return directions, np.broadcast_to(flat * (np.pi / height) * (2 * np.pi / width), (height, width))


def harmonic_basis(n: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return the nine real spherical harmonics (..., 9) up to the second band at unit vectors (..., 3)."""
    x, y, z = n[..., 0], n[..., 1], n[..., 2]
    return np.stack(
        [
            np.full_like(x, 0.282095),
            0.488603 * y,
            0.488603 * z,
            0.488603 * x,
            1.092548 * x * y,
            1.092548 * y * z,
            0.315392 * (3 * z * z - 1),
            1.092548 * x * z,
            0.546274 * (x * x - y * y),
        ],
        -1,
    )


def _glossy(sharp: Floats, roughness: float) -> Floats:
    """Return a map filtered by the lobe of GGX about each direction, computed at 32 x 64 and enlarged."""
    small = cv2.resize(sharp, (64, 32), interpolation=cv2.INTER_AREA).reshape(-1, 3)
    directions, solid_angle = map_directions(32, 64)
    unit = directions.reshape(-1, 3).astype(np.float32)
    half_square = np.clip((1 + unit @ unit.T) / 2, 0, 1)
    a2 = np.float32(max(roughness**2, 0.04) ** 2)
    lobe = (a2 / (half_square * (a2 - 1) + 1) ** 2) * np.clip(unit @ unit.T, 0, None)
    weights = lobe * solid_angle.reshape(-1).astype(np.float32)
    filtered = (weights @ small / weights.sum(1, keepdims=True)).reshape(32, 64, 3)
    wide = np.concatenate([filtered[:, -2:], filtered, filtered[:, :2]], axis=1)
    return cv2.resize(wide, (LAYER[1] + 8, LAYER[0]), interpolation=cv2.INTER_LINEAR)[:, 4:-4].astype(np.float32)
