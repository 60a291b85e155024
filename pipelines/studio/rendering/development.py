"""Development of linear light to the numbers of an image, in numpy; ``glsl`` states the same formulas for OpenGL."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipelines.media.cameras import Camera
from pipelines.media.srgb import encode_srgb
from pipelines.studio.rendering.scene import ColourLook, StudioScene
from pipelines.studio.rendering.shading import map_coordinates, unit

Floats = NDArray[np.float32]


def develop(light: Floats, look: ColourLook, seed: int) -> NDArray[np.uint8]:
    """Return the encoded image (H, W, 3) of linear light (H, W, 3).

    Args:
        light: Linear light over the background.
        look: Exposure, white balance, curve and noise.
        seed: Seed of the noise.
    """
    height, width = light.shape[:2]
    off_x, off_y = ((np.arange(n, dtype=np.float32) + 0.5 - n / 2) / (n / 2) for n in (width, height))
    falloff = 1 - look.vignette * (off_x[None] ** 2 + off_y[:, None] ** 2) * np.float32(0.5)
    x = light * (look.exposure * np.array(look.white_balance, np.float32)) * falloff[..., None]
    spread = np.sqrt(look.shot_noise * x.clip(0) + look.read_noise**2)
    x = (x + spread * sensor_noise(height, width, seed)).clip(0)
    grey = x @ np.array([0.2126, 0.7152, 0.0722], np.float32)
    x = (grey[..., None] + (x - grey[..., None]) * look.saturation).clip(0)
    x = 0.18 * (x / 0.18).clip(1e-9) ** look.contrast
    bent = look.knee + (1 - look.knee) * (1 - np.exp(-(x - look.knee).clip(0) / (1 - look.knee)))
    x = np.where(x > look.knee, bent, x)
    return encode_srgb(x)


def sensor_noise(height: int, width: int, seed: int) -> Floats:
    """Return normal noise (height, width, 3) that depends on pixel, channel and seed alone (hash: PCG)."""
    pixel = np.arange(height * width, dtype=np.uint32)
    pixel ^= np.uint32(seed & 0xFFFFFFFF)
    pixel = _scramble(pixel) * np.uint32(8)
    index = (pixel[:, None] + np.arange(6, dtype=np.uint32)).astype(np.uint32)
    numbers = ((_scramble(index) >> np.uint32(8)).astype(np.float32) + np.float32(0.5)) / np.float32(16777216)
    radius = np.sqrt(-2 * np.log(numbers[:, ::2]))
    return (radius * np.cos(2 * np.pi * numbers[:, 1::2])).reshape(height, width, 3).astype(np.float32)


def background_light(scene: StudioScene, camera: Camera) -> Floats:
    """Return the blurred environment behind the person (H, W, 3), linear light."""
    x, y = np.meshgrid(np.arange(camera.width) + 0.5, np.arange(camera.height) + 0.5)
    pixels = np.stack([x, y, np.ones_like(x)], -1).reshape(-1, 3)
    to_map = scene.rotation() @ camera.world_to_camera[:, :3].T @ np.linalg.inv(camera.K)
    u, v = map_coordinates(unit((pixels @ to_map.T).astype(np.float32)))
    soft = scene.environment.blurred(scene.background_blur)
    return (_sample_cubic(soft, u, v) * scene.background_gain).reshape(camera.height, camera.width, 3)


def _sample_cubic(image: Floats, u: Floats, v: Floats) -> Floats:
    """Return cubic B-spline samples (N, 3) of a map that repeats across and is clamped up and down."""
    height, width = image.shape[:2]
    x, y = u * width - 0.5, v * height - 0.5
    left, top = np.floor(x).astype(np.int64), np.floor(y).astype(np.int64)
    across, down = _spline(x - left), _spline(y - top)
    out = np.zeros((len(u), 3), np.float32)
    for j in range(4):
        row = (top + j - 1).clip(0, height - 1)
        for i in range(4):
            out += image[row, (left + i - 1) % width] * (across[i] * down[j])[:, None]
    return out


def _spline(f: Floats) -> list[Floats]:
    first, last, second = (1 - f) ** 3 / 6, f**3 / 6, (4 - 6 * f**2 + 3 * f**3) / 6
    return [w.astype(np.float32) for w in (first, second, 1 - first - second - last, last)]


def _scramble(x: NDArray[np.uint32]) -> NDArray[np.uint32]:
    state = x * np.uint32(747796405) + np.uint32(2891336453)
    word = ((state >> ((state >> np.uint32(28)) + np.uint32(4))) ^ state) * np.uint32(277803737)
    return (word >> np.uint32(22)) ^ word
