"""Accessories of a studio head, which are not part of the head model: teeth, glasses, long hair.

Each accessory is built for the template. It is shifted with a group of head vertices when the identity's shape changes,
and moves rigidly with one joint when the head moves.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipelines.media.srgb import decode_srgb
from pipelines.studio.appearance import Appearance
from pipelines.studio.hair import CENTRE
from pipelines.studio.mesh import Mesh, grid_barycentric, merge
from pipelines.studio.part_classes import Part
from pipelines.studio.studio_head import JAW, NECK, ORDER, StudioHead

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Accessory:
    """A mesh bound to one joint of the head."""

    mesh: Mesh
    """Mesh of the accessory on the template."""
    joint: int
    """Index of the joint with which the accessory moves."""
    anchor: NDArray[np.int64]
    """Indices of head vertices; the accessory is shifted with their mean when the identity's shape changes."""
    part: Part
    """Segmentation class of the accessory."""

    def posed(self, head: StudioHead, shaped: Floats, transforms: Floats) -> Mesh:
        """Return the accessory's mesh on a shaped and posed head.

        Args:
            head: The head on whose template the accessory was built.
            shaped: (V, 3) vertices of the identity at rest, metres.
            transforms: (5, 3, 4) transforms of the joints.
        """
        shift = (shaped[self.anchor] - head.template[self.anchor]).mean(0)
        transform = transforms[self.joint]
        return self.mesh.posed((self.mesh.vertices + shift) @ transform[:, :3].T + transform[:, 3])


def build_accessories(head: StudioHead, appearance: Appearance) -> list[Accessory]:
    """Build the accessories of a person: the teeth, and glasses and long hair if the appearance has them.

    Args:
        head: The studio's head.
        appearance: Appearance of the person; its seed determines shapes and colours.
    """
    accessories = [_teeth(head, upper=True), _teeth(head, upper=False)]
    if appearance.glasses is not None:
        accessories.append(_glasses(head, appearance))
    if appearance.hair_style == "long":
        accessories.append(_long_hair(head, appearance))
    return accessories


def _grid_mesh(points: Floats, colour: Floats, gloss: float) -> Mesh:
    """Return a mesh over a grid of points (M, N, 3), with a colour per point (M, N, 3) and one gloss."""
    m, n = points.shape[:2]
    index = np.arange(m * n).reshape(m, n)
    a, b, c, d = index[:-1, :-1], index[:-1, 1:], index[1:, 1:], index[1:, :-1]
    triangles = np.concatenate([np.stack(t, -1).reshape(-1, 3) for t in ((a, b, c), (a, c, d))])
    painted = np.concatenate([colour, np.full((m, n, 1), gloss)], -1).reshape(-1, 4)
    colours = np.einsum("gk,fkc->fgc", grid_barycentric(ORDER), painted[triangles])
    return Mesh(points.reshape(-1, 3).astype(np.float32), triangles, colours.astype(np.float32), ORDER)


def _teeth(head: StudioHead, upper: bool) -> Accessory:
    """Build the upper or lower row of teeth: a curved band behind the lips that is darker between the teeth."""
    points, colour = teeth_band(upper)
    lips = np.flatnonzero(head.model.regions.numpy()[:, head.model.region_names.index("lips")] > 0.5)
    part = Part.UPPER_TEETH if upper else Part.LOWER_TEETH
    return Accessory(_grid_mesh(points, colour, 0.6), NECK if upper else JAW, lips, part)


def teeth_band(upper: bool) -> tuple[Floats, Floats]:
    """Build the upper or lower row of teeth of the template: a curved band that is darker between the teeth.

    Args:
        upper: True for the upper row.

    Returns:
        Points (57, 5, 3), metres, and their colours (57, 5, 3), linear RGB.
    """
    side = np.linspace(-1, 1, 57)
    x = 0.021 * np.sin(side * 1.35) / np.sin(1.35)
    z = 0.0215 - 0.026 * (1 - np.cos(side * 1.35)) - (0.0 if upper else 0.002)
    heights = np.linspace(-0.0655, -0.0745, 5) if upper else np.linspace(-0.0765, -0.0845, 5)
    gaps = 0.72 + 0.28 * np.minimum(1, np.abs(np.sin(side * np.pi * 4.5)) * 4)
    points = np.stack(np.broadcast_arrays(x[:, None], heights[None], z[:, None]), -1)
    gum = np.array([0.45, 0.17, 0.16], np.float32)
    tooth = np.array([0.70, 0.66, 0.56], np.float32) * gaps[:, None, None]
    root = np.array([1.0, 0.35, 0, 0, 0] if upper else [0, 0, 0, 0.35, 1.0])[None, :, None]
    colour = (1 - root) * tooth + root * gum
    return points, colour * (0.25 + 0.75 * np.cos(side * 1.35))[:, None, None]


def _tube(path: NDArray[np.floating], radius: float, colour: Floats, closed: bool) -> Mesh:
    """Build a round tube along a path (N, 3)."""
    ahead = np.roll(path, -1, 0) - np.roll(path, 1, 0)
    if not closed:
        ahead[0], ahead[-1] = path[1] - path[0], path[-1] - path[-2]
    ahead /= np.linalg.norm(ahead, axis=1, keepdims=True)
    reference = np.where(np.abs(ahead[:, 2:]) > 0.8, [[0.0, 1.0, 0.0]], [[0.0, 0.0, 1.0]])
    across = np.cross(ahead, reference)
    across /= np.linalg.norm(across, axis=1, keepdims=True)
    over = np.cross(ahead, across)
    turn = np.linspace(0, 2 * np.pi, 9)[None, :, None]
    rings = path[:, None] + radius * (np.cos(turn) * across[:, None] + np.sin(turn) * over[:, None])
    if closed:
        rings = np.concatenate([rings, rings[:1]])
    return _grid_mesh(rings, np.broadcast_to(colour, rings.shape), 0.5)


def _glasses(head: StudioHead, appearance: Appearance) -> Accessory:
    """Build two rims, a bridge and two temples."""
    assert appearance.glasses is not None
    g = np.random.default_rng(appearance.seed + 10)
    colour = decode_srgb(appearance.glasses)
    wide, high, power = g.uniform(0.022, 0.026), g.uniform(0.016, 0.021), g.uniform(0.55, 1.0)
    turn = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    rim_x = wide * np.sign(np.cos(turn)) * np.abs(np.cos(turn)) ** power
    rim_y = high * np.sign(np.sin(turn)) * np.abs(np.sin(turn)) ** power - 0.003
    radius, tubes = g.uniform(0.0008, 0.0016), []
    for side in (-1.0, 1.0):
        x = side * 0.0325 + rim_x
        tubes.append(_tube(np.stack([x, rim_y, 0.0375 - 6.0 * x**2 * 0.8], 1), radius, colour, closed=True))
        hinge = np.array([side * (0.0325 + wide), 0.004, 0.0375 - 4.8 * (0.0325 + wide) ** 2])
        ear = np.array([side * 0.0800, 0.008, -0.072])
        bend = np.array([side * 0.0740, 0.005, 0.0])
        t = np.linspace(0, 1, 12)[:, None]
        tubes.append(_tube((1 - t) ** 2 * hinge + 2 * t * (1 - t) * bend + t**2 * ear, radius, colour, closed=False))
    t = np.linspace(-1, 1, 9)
    bridge = np.stack([t * (0.0325 - wide), 0.004 + 0.003 * (1 - t**2), np.full(9, 0.037)], 1)
    tubes.append(_tube(bridge, radius, colour, closed=False))
    between_the_eyes = np.array((0.0, 0.0, 0.024), np.float32)
    anchor = np.flatnonzero(np.linalg.norm(head.template - between_the_eyes, axis=1) < 0.02)
    return Accessory(merge(tubes), NECK, anchor, Part.GLASSES)


def _long_hair(head: StudioHead, appearance: Appearance) -> Accessory:
    """Build a curtain of hair that reaches from the scalp to the neck at the sides and the back."""
    points, shade = hair_curtain(head, appearance)
    colour = decode_srgb(appearance.hair) * np.clip(shade, 0.4, 1.5)[..., None]
    scalp = np.flatnonzero(head.template[:, 1] > 0.05)
    return Accessory(_grid_mesh(points, colour, 0.25), NECK, scalp, Part.HAIR)


def hair_curtain(head: StudioHead, appearance: Appearance) -> tuple[Floats, NDArray[np.floating]]:
    """Draw a curtain of long hair for the template.

    Args:
        head: The studio's head.
        appearance: Appearance of the person, with long hair.

    Returns:
        Points (M, N, 3) of M heights and N directions, metres, and the brightness (N, M) of strands, about 1.
    """
    g = np.random.default_rng(appearance.seed + 11)
    start, length = np.radians(g.uniform(68, 80)), g.uniform(0.11, 0.145)
    angle = np.linspace(start, 2 * np.pi - start, 90)
    height = np.linspace(0.085, -length, 40)
    direction = np.stack([np.sin(angle), np.cos(angle)], 1)
    wavy = sum(np.sin(k * angle + g.uniform(0, 6.3)) for k in (9, 14, 23))
    drop = np.clip((0.02 - height) / 0.12, 0, 1)
    # The curtain starts inside the hair on the scalp; further down it stands off and bends outwards or inwards.
    rise = np.clip((0.085 - height) / 0.03, 0, 1)
    stand = appearance.hair_thickness * (0.95 + 0.2 * np.asarray(wavy)[:, None]) * rise
    out = _skull_radius(head, direction, height) * (1 + g.uniform(-0.1, 0.06) * drop[None]) + stand
    points = np.stack(
        [out * direction[:, :1], np.broadcast_to(height[None], out.shape), out * direction[:, 1:] + CENTRE[2]], -1
    )
    strand = 1 + 0.25 * np.sin(angle * 41 + g.uniform(0, 6.3)) * np.sin(angle * 17) + g.normal(scale=0.06, size=90)
    return points, strand[:, None] * (1 - 0.25 * drop[None])


def _skull_radius(
    head: StudioHead, direction: NDArray[np.floating], height: NDArray[np.floating]
) -> NDArray[np.floating]:
    """Return the distance (M, N), metres, from the skull's vertical axis to its surface.

    The directions (M, 2) are (x, z) unit vectors, the heights (N,) are in metres. Below the ears (y < -0.02) the
    distance at their height is used.
    """
    flat, y = head.template[:, [0, 2]] - CENTRE[[0, 2]], head.template[:, 1]
    rows = []
    for h in np.maximum(height, -0.02):
        ring = flat[np.abs(y - h) < 0.008]
        rows.append((ring @ direction.T).max(0))
    return np.stack(rows, 1)
