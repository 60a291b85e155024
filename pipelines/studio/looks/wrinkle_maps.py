"""Wrinkle maps: the folds of forehead, brows, eyes and cheeks as slopes, which renderers add by expression."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from pipelines.studio.people.figure import AgeBand
from pipelines.studio.rendering.wrinkles import REGIONS, STEP

Image = NDArray[np.uint8]
Floats = NDArray[np.float32]
DEPTH: dict[AgeBand, float] = {"young": 0.3, "middle": 0.65, "old": 1.0}
"""Age → factor of the depth of folds."""
FOLD = 0.0001
"""Depth of a fold of an old face, metres."""
WIDTH = 0.0013
"""Half of the width of a fold, metres."""
NUMBER = {name: number for number, (name, _) in enumerate(REGIONS)}


def wrinkle_map(places: Floats, age: AgeBand | None, g: np.random.Generator) -> Image:
    """Return a wrinkle map (H, W, 3), twice as fine as the map of places; see ``Material.wrinkle_map``.

    Args:
        places: (h, w, 3) positions of the face on a reduced map, metres.
        age: Age, which decides the depth.
        g: Random generator of the places of folds.
    """
    fine = np.asarray(cv2.resize(places, None, fx=2, fy=2, interpolation=cv2.INTER_LINEAR), np.float32)
    height, region = np.zeros(fine.shape[:2], np.float32), np.zeros(fine.shape[:2], np.uint8)
    front = fine[..., 2] > -0.05
    for name, folds, near in _folds(fine[front], g):
        height[front] -= folds * near
        region[front] = np.where(near > 0, NUMBER[name] * STEP, region[front])
    height *= FOLD * DEPTH[age or "middle"] * float(g.uniform(0.7, 1.2))
    texel = float(np.median(np.linalg.norm(np.diff(fine[front.any(1)][:, front.any(0)], axis=0), axis=-1)))
    down, across = np.gradient(height, max(texel, 1e-5))
    slopes = np.stack([-across, down], -1).clip(-1, 1) * 127 + 128
    slopes[~front] = 128
    return np.concatenate([np.rint(slopes).astype(np.uint8), region[..., None]], 2)


def _folds(places: Floats, g: np.random.Generator) -> list[tuple[str, Floats, Floats]]:
    """Return region, depth (N,) from 0 to 1 and share (N,) of the region, of places (N, 3)."""
    x, y, _ = places.T
    made = []
    wave = 0.0015 * np.sin(55 * x + g.uniform(0, 6)) - 1.2 * x**2
    lines = [0.041 + 0.0085 * k + g.normal(scale=0.001) + wave for k in range(4)]
    inside = _window(np.abs(x), -1, 0.05, 0.025) * _window(y, 0.031, 0.078, 0.01)
    made.append(("forehead", _grooves([y - line for line in lines]), inside))
    slant = g.uniform(0.0, 0.12)
    frown = [np.abs(x) - 0.0075 - slant * (y - 0.01)]
    made.append(("frown", _grooves(frown), _window(y, 0.004, 0.034, 0.012) * _window(np.abs(x), -1, 0.016)))
    angles = [-0.55 + 0.36 * k + g.normal(scale=0.05) for k in range(4)]
    for name, side in (("left", 1), ("right", -1)):
        out, up = side * x - 0.046, y - 0.0
        rays = [up * np.cos(a) - out * np.sin(a) for a in angles]
        made.append(
            (
                f"{name} eye",
                _grooves(rays),
                _window(np.hypot(out, up), 0.003, 0.026, 0.01) * _window(out, 0.0, 1.0, 0.004),
            )
        )
        start, end = np.array([0.019, -0.033]), np.array([0.037, -0.072])
        along = ((side * x - start[0]) * (end - start)[0] + (y - start[1]) * (end - start)[1]) / (
            (end - start) ** 2
        ).sum()
        off = (side * x - start[0]) * (end - start)[1] - (y - start[1]) * (end - start)[0]
        distance = off / np.linalg.norm(end - start) + 0.004 * np.sin(np.pi * along.clip(0, 1))
        near = _window(along, 0.0, 1.1, 0.3) * _window(np.abs(distance), -1, 0.012, 0.008)
        made.append((f"{name} cheek", 1.3 * _grooves([distance / 2.2]), near))
    return [(name, folds.astype(np.float32), near.astype(np.float32)) for name, folds, near in made]


def _grooves(distances: list[NDArray[np.floating]]) -> NDArray[np.floating]:
    """Return the depth (N,) of grooves whose middles are at distances 0, metres, with raised banks."""
    groove = sum(np.exp(-((d / WIDTH) ** 2)) - 0.2 * np.exp(-((d / (3 * WIDTH)) ** 2)) for d in distances)
    return np.asarray(groove)


def _window(value: NDArray[np.floating], low: float, high: float, soft: float = 0.006) -> NDArray[np.floating]:
    """Return 1 between two limits, falling softly to 0 at them."""
    inner = ((value - low) / soft).clip(0, 1) * ((high - value) / soft).clip(0, 1)
    return inner * inner * (3 - 2 * inner)
