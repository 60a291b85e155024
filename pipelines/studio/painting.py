"""Procedural colours of the studio head, which are functions of the position on the template, so there are no seams.

Positions on the template, metres: eyes at x = ±0.031, y = 0; mouth at y = -0.073; chin at y = -0.118; top at y = 0.116.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from pipelines.media.srgb import decode_srgb
from pipelines.studio.appearance import Appearance
from pipelines.studio.hair import hair_cover
from pipelines.studio.studio_head import StudioHead

Floats = NDArray[np.float32]
EYEBALL = 0.0163
"""Radius of the eyeball, metres."""
IRIS, PUPIL = np.arcsin(0.0060 / EYEBALL), np.arcsin(0.0024 / EYEBALL)
"""Angles between the eye's axis and the edges of iris and pupil, radians."""
BROW = np.array([(0.011, 0.0165), (0.019, 0.0205), (0.031, 0.0235), (0.041, 0.0205), (0.050, 0.0130)])
"""Points (x, y) of the left eyebrow's middle line, from the nose outwards, metres."""


def smoothstep(x: Floats, low: float, high: float) -> Floats:
    """Return a smooth step from 0 at ``low`` to 1 at ``high``.

    Args:
        x: Values of any shape.
        low: Value at which the step is 0; it may be larger than ``high``.
        high: Value at which the step is 1.
    """
    t = np.clip((x - np.float32(low)) / np.float32(high - low), 0, 1)
    return t * t * (3 - 2 * t)


def noise(points: Floats, seed: int, wavelength: float, waves: int = 10) -> Floats:
    """Return smooth noise with mean 0 and standard deviation 1 at points: a sum of random plane waves.

    Args:
        points: (..., 3) positions, metres.
        seed: Seed of the noise.
        wavelength: Approximate length of the waves, metres.
        waves: Number of waves.

    Returns:
        (...) values.
    """
    g = np.random.default_rng(seed)
    direction = g.normal(size=(waves, 3))
    direction *= (
        2 * np.pi / wavelength * g.uniform(0.6, 1.6, (waves, 1)) / np.linalg.norm(direction, axis=1, keepdims=True)
    )
    phase = points @ direction.T.astype(np.float32) + g.uniform(0, 2 * np.pi, waves).astype(np.float32)
    return np.sin(phase).sum(-1) * np.float32(np.sqrt(2 / waves))


def paint(head: StudioHead, appearance: Appearance) -> Floats:
    """Paint a head with a person's appearance.

    Args:
        head: Head of the studio, with F triangles of G grid points each.
        appearance: Appearance of the person.

    Returns:
        (F, G, 4) mesh colours: linear red, green, blue, and gloss.
    """
    p, regions = head.points, head.regions
    skin, hair = decode_srgb(appearance.skin), decode_srgb(appearance.hair)
    colour = np.broadcast_to(skin, p.shape).copy()
    gloss = np.full(p.shape[:2], 0.13, np.float32)
    mirrored = p * np.array([1, 1, 0.5], np.float32)
    mirrored[..., 0] = np.abs(mirrored[..., 0])
    blotches = noise(mirrored, appearance.seed, 0.035, 16) + 0.7 * noise(mirrored, appearance.seed + 12, 0.016, 16)
    fine = 0.02 * noise(p, appearance.seed + 13, 0.03, 16) + 0.012 * noise(p, appearance.seed + 1, 0.005, 24)
    colour *= (1 + appearance.complexion * np.clip(blotches, -1.6, 1.2) + fine)[..., None]

    def over(mask: NDArray[np.floating], tint: NDArray[np.floating] | tuple[float, float, float]) -> None:
        colour[:] += mask[..., None] * (np.array(tint, np.float32) - colour)

    front = smoothstep(p[..., 2], -0.02, 0.0)
    x, y = np.abs(p[..., 0]), p[..., 1]
    red = skin * np.array([1.12, 0.78, 0.75], np.float32)
    cheek = np.exp(-(((x - 0.042) / 0.017) ** 2 + ((y + 0.038) / 0.016) ** 2)) * front
    tip = np.exp(-((x / 0.012) ** 2 + ((y + 0.042) / 0.012) ** 2)) * smoothstep(p[..., 2], 0.03, 0.045)
    over(appearance.blush * (cheek + tip).clip(0, 1), red)
    over(0.35 * smoothstep(regions["ears"], 0.3, 0.7), red)
    over(
        np.abs(appearance.bags) * _bell(x, y, (0.028, -0.0145), (0.015, 0.006)) * front,
        skin * np.float32(0.55 if appearance.bags > 0 else 1.3),
    )
    over(
        appearance.eye_shadow * _bell(x, y, (0.032, 0.009), (0.017, 0.007)) * front,
        skin * np.array([0.5, 0.42, 0.45], np.float32),
    )
    over(0.8 * appearance.folds * _folds(x, y) * front, skin * np.array([0.55, 0.45, 0.42], np.float32))
    over(appearance.wrinkles * _wrinkles(x, y, appearance) * front, skin * np.array([0.6, 0.5, 0.45], np.float32))
    if appearance.moles:
        over(
            0.85 * _spots(head, appearance, appearance.moles, (0.0010, 0.0020), 14),
            skin * np.array([0.35, 0.25, 0.2], np.float32),
        )
    if appearance.freckles:
        over(
            0.55 * _spots(head, appearance, appearance.freckles, (0.0006, 0.0015), 8),
            skin * np.array([0.62, 0.48, 0.38], np.float32),
        )
    lips = smoothstep(regions["lips"], appearance.lip_border - 0.13, appearance.lip_border + 0.13)
    if appearance.beard:
        stubble = (0.75 + 0.2 * noise(p, appearance.seed + 2, 0.0025)).clip(0, 1)
        over(appearance.beard * beard_mask(p) * (1 - lips) * stubble, 0.8 * hair + 0.05 * skin)
    over(lips * appearance.lip_strength, decode_srgb(appearance.lips))
    gloss += 0.25 * lips
    over(appearance.brow_strength * _brows(p, appearance), hair * np.float32(0.8))
    cover = hair_cover(p, appearance) * (1 - smoothstep(regions["ears"], 0.3, 0.6))
    if appearance.hair_style == "cap":
        over(
            cover, hair * (1 + 0.06 * noise(p * np.array([1, 6, 1], np.float32), appearance.seed + 3, 0.02))[..., None]
        )
    else:
        azimuth = np.stack([np.arctan2(p[..., 0], p[..., 2] + 0.07), 0.15 * p[..., 1] / 0.1, np.zeros_like(x)], -1)
        strands = 1 + 0.16 * noise(azimuth, appearance.seed + 4, 0.05) + 0.12 * noise(p, appearance.seed + 5, 0.008)
        over(cover, hair * strands.clip(0.4, 1.7)[..., None])
    gloss = gloss + cover * (0.05 if appearance.hair_style == "cap" else 0.22)
    colour *= (0.55 + 0.45 * smoothstep(head.openness, 0.0, 0.75))[..., None]

    lids = smoothstep(regions["eyelids"], 0.55, 0.9)
    rim = (1 - 0.6 * appearance.liner) * skin * np.float32(0.6)
    over(appearance.liner * lids * smoothstep(p[..., 2], 0.004, 0.009), rim)
    inside = smoothstep(regions["mouth_interior"], 0.45, 0.8) * (1 - lips)
    over(inside, (0.10, 0.022, 0.022))
    over(smoothstep(regions["tongue"], 0.3, 0.6), (0.36, 0.10, 0.10))
    gloss = np.where(regions["tongue"] > 0.5, np.float32(0.4), gloss)
    for name, centre in zip(("left_eye", "right_eye"), head.eye_centres, strict=True):
        ball = regions[name] > 0.5
        colour[ball] = _eye(p[ball] - centre, appearance)
        gloss[ball] = 0.95
    return np.concatenate([colour.clip(0, 1), gloss[..., None].clip(0, 1)], -1).astype(np.float32)


def _eye(offset: Floats, appearance: Appearance) -> Floats:
    """Return colours (N, 3) at offsets (N, 3), metres, from the eye's centre; the pupil looks along +Z."""
    angle = np.arctan2(np.hypot(offset[:, 0], offset[:, 1]), offset[:, 2])
    around = np.arctan2(offset[:, 1], offset[:, 0])
    g = np.random.default_rng(appearance.seed + 6)
    rays = sum(np.sin(k * around + g.uniform(0, 6.3)) for k in (9, 17, 29))
    white = (
        np.array([0.80, 0.77, 0.74], np.float32)
        - np.array([0.10, 0.22, 0.22], np.float32) * smoothstep(angle, 0.5, 1.2)[:, None]
    )
    iris = decode_srgb(appearance.iris) * (1.15 + 0.10 * np.asarray(rays))[:, None]
    iris = iris * (1 - 0.65 * smoothstep(angle, 0.82 * IRIS, IRIS))[:, None]
    colour = np.where(smoothstep(angle, IRIS + 0.02, IRIS - 0.02)[:, None] > 0.5, iris, white)
    pupil = smoothstep(angle, PUPIL + 0.03, PUPIL - 0.03)[:, None]
    return (colour * (1 - pupil) + 0.008 * pupil).astype(np.float32)


def _bell(x: Floats, y: Floats, at: tuple[float, float], size: tuple[float, float]) -> Floats:
    return np.exp(-(((x - at[0]) / size[0]) ** 2 + ((y - at[1]) / size[1]) ** 2)).astype(np.float32)


def _folds(x: Floats, y: Floats) -> Floats:
    """Return a soft mask of the lines from beside the nose to beside the mouth."""
    along = (y + 0.042) / -0.034
    line = 0.019 + 0.012 * along
    return np.exp(-(((x - line) / 0.0022) ** 2)) * smoothstep(along, -0.05, 0.2) * smoothstep(along, 1.1, 0.8)


def _wrinkles(x: Floats, y: Floats, appearance: Appearance) -> Floats:
    """Return a soft mask of the horizontal lines on the forehead."""
    bend = 0.004 * np.cos(x / 0.013 + appearance.seed % 5)
    waves = smoothstep(np.cos((y + bend) * (2 * np.pi / 0.0085)), 0.55, 1.0)
    return waves * smoothstep(y, 0.032, 0.036) * smoothstep(y, 0.056, 0.050) * smoothstep(x, 0.042, 0.03)


def _brows(p: Floats, appearance: Appearance) -> Floats:
    """Return a soft mask (F, G) of both eyebrows: a line that becomes narrower outwards and has ragged edges."""
    x, y = np.abs(p[..., 0]), p[..., 1]
    line = BROW.copy()
    share = np.linspace(0, 1, len(line))
    line[:, 0] += appearance.brow_gap * (1 - share)
    line[:, 1] += np.interp(share, [0, 0.5, 1], appearance.brow_shift)
    nearest, along = np.full(x.shape, np.inf, np.float32), np.zeros(x.shape, np.float32)
    for i, (a, b) in enumerate(pairwise(line)):
        step = b - a
        t = (((x - a[0]) * step[0] + (y - a[1]) * step[1]) / (step @ step)).clip(0, 1)
        distance = np.hypot(x - a[0] - t * step[0], y - a[1] - t * step[1])
        closer = distance < nearest
        nearest, along = np.where(closer, distance, nearest), np.where(closer, (i + t) / (len(line) - 1), along)
    width = np.float32(appearance.brow_width) * (1 - 0.65 * smoothstep(along, 0.45, 1.0))
    frayed = nearest * (1 + 0.18 * noise(p * np.array([1, 0.4, 1], np.float32), appearance.seed + 7, 0.0025))
    return (1 - smoothstep(frayed / width, 0.6, 1.15)) * smoothstep(p[..., 2], 0.0, 0.006)


def beard_mask(p: Floats) -> Floats:
    """Return a soft mask (...) of the area where a beard grows (jaw, chin, upper lip) at template points (..., 3)."""
    x, y, z = np.abs(p[..., 0]), p[..., 1], p[..., 2]
    jaw = smoothstep(y, -0.052, -0.066) * smoothstep(z, -0.075, -0.055) * smoothstep(y, -0.128, -0.116)
    jaw = jaw * smoothstep(y + 0.6 * np.maximum(z + 0.02, 0) - 0.25 * np.maximum(x - 0.03, 0), -0.042, -0.056)
    moustache = smoothstep(y, -0.0535, -0.057) * smoothstep(x, 0.032, 0.026) * smoothstep(z, 0.008, 0.016)
    sideburn = smoothstep(z, -0.062, -0.055) * smoothstep(z, -0.04, -0.05) * smoothstep(y, 0.01, -0.005)
    return np.maximum(np.maximum(jaw, moustache), sideburn * smoothstep(x, 0.06, 0.064)).astype(np.float32)


def _spots(head: StudioHead, appearance: Appearance, count: int, radii: tuple[float, float], salt: int) -> Floats:
    """Return a soft mask (F, G) of ``count`` round spots with radii in the range ``radii`` (metres) over the face."""
    from scipy.spatial import cKDTree

    g = np.random.default_rng(appearance.seed + salt)
    y, z = head.template[:, 1], head.template[:, 2]
    low = -0.058 if count > 8 else -0.1
    near = np.flatnonzero((z > -0.01) & (y > low) & (y < 0.002) & (head.normals[:, 2] > 0.2))
    centres = head.template[g.choice(near, count)] + g.normal(scale=0.0025, size=(count, 3))
    radius = g.uniform(*radii, count)
    distance, which = cKDTree(centres).query(head.points.reshape(-1, 3), distance_upper_bound=0.004)
    size = np.append(radius, 1e-9)[which]
    return (1 - smoothstep((distance / size).astype(np.float32), 0.6, 1.3)).reshape(head.points.shape[:2])
