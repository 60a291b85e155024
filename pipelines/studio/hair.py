"""Hair, beards and caps: the area of the head that they cover, and their distance from the head."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipelines.studio.appearance import Appearance

Floats = NDArray[np.float32]
CENTRE = np.array([0.0, 0.02, -0.07], np.float32)
"""Centre of the skull on the template, metres."""
ANGLES = (0, 35, 60, 78, 92, 115, 150, 180)
"""Angles around the head, degrees: 0 in front, 180 behind."""
LINES = {
    "cropped": (0.060, 0.062, 0.048, 0.012, 0.004, -0.030, -0.070, -0.072),
    "short": (0.058, 0.056, 0.040, 0.000, -0.002, -0.040, -0.080, -0.084),
    "long": (0.058, 0.054, 0.030, -0.010, -0.030, -0.110, -0.130, -0.130),
    "cap": (0.036, 0.034, 0.026, 0.020, 0.012, -0.004, -0.020, -0.024),
}
"""Hair style → heights of the hairline on the template at ``ANGLES``, metres."""


def _height_over_line(p: Floats, appearance: Appearance) -> Floats:
    """Return the heights (...) of template points (..., 3) above the hairline, metres; -1 for bald people."""
    if appearance.hair_style == "bald":
        return np.full(p.shape[:-1], -1.0, np.float32)
    angle = np.degrees(np.arctan2(np.abs(p[..., 0]), p[..., 2] - CENTRE[2]))
    line = np.interp(angle, ANGLES, LINES[appearance.hair_style]) + appearance.hairline * np.interp(
        angle, [0, 60, 90], [1, 0.5, 0]
    )
    ragged = 0.0 if appearance.hair_style == "cap" else 0.0015
    wobble = ragged * (np.sin(angle * 0.9 + appearance.seed % 7) + np.sin(angle * 2.3 + appearance.seed % 11))
    return (p[..., 1] - line - wobble).astype(np.float32)


def hair_cover(p: Floats, appearance: Appearance) -> Floats:
    """Return the share of the skin that hair or a cap hides at points of the template.

    Args:
        p: (..., 3) points on the template, metres.
        appearance: Appearance of the person.

    Returns:
        (...) shares from 0 to 1.
    """
    height = _height_over_line(p, appearance)
    soft = 0.001 if appearance.hair_style == "cap" else 0.004
    t = np.clip((height + soft) / (2 * soft), 0, 1)
    return t * t * (3 - 2 * t)


def hair_offset(template: Floats, normals: Floats, ears: Floats, beard: Floats, appearance: Appearance) -> Floats:
    """Return the offsets of the surface of hair, cap and beard from the template's vertices.

    Args:
        template: (V, 3) vertices at rest, metres.
        normals: (V, 3) unit normals of the vertices.
        ears: (V,) soft mask of the ears, which hair does not cover.
        beard: (V,) soft mask of the area where a beard grows.
        appearance: Appearance of the person.

    Returns:
        (V, 3) offsets, metres.
    """
    height = _height_over_line(template, appearance)
    rise = np.clip(height / 0.02, 0, 1) ** 0.5 * np.clip(height / 0.002, 0, 1)
    g = np.random.default_rng(appearance.seed + 9)
    lumps = np.ones(len(template), np.float32)
    if appearance.hair_style in ("short", "long"):
        for _ in range(8):
            direction = g.normal(size=3)
            wave = template @ (direction / np.linalg.norm(direction) * 2 * np.pi / g.uniform(0.015, 0.05)).astype(
                np.float32
            )
            lumps += 0.07 * np.sin(wave + g.uniform(0, 6.3)).astype(np.float32)
    outward = template - CENTRE
    outward = outward / np.linalg.norm(outward, axis=1, keepdims=True) + normals
    outward /= np.maximum(np.linalg.norm(outward, axis=1, keepdims=True), 1e-6)
    hair = (appearance.hair_thickness * rise * lumps * (1 - np.clip(2 * ears, 0, 1)))[:, None] * outward
    stands = 0.006 * max(appearance.beard - 0.5, 0.0) * np.clip(1.5 * beard, 0, 1)
    return (hair + stands[:, None] * normals).astype(np.float32)
