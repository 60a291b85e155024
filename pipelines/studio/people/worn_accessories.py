"""Accessories of people, made for each head without a kit: glasses, hats, headphones and scarves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mfhq.ids import seed_of
from pipelines.studio.part_classes import Part
from pipelines.studio.people.figure import Material
from pipelines.studio.people.swept_shapes import Shape, fan, grid, merge, tube

Floats = NDArray[np.float32]
Array = NDArray[np.float64]
STYLES: dict[str, dict[str, float]] = {
    "glasses": {"round": 0.07, "square": 0.09, "half": 0.04, "sunglasses": 0.03},
    "hat": {"beanie": 0.05, "cap": 0.05},
    "headphones": {"over the ears": 0.03},
    "scarf": {"wool": 0.05},
}
"""Kind of accessory → style → share of people who wear it."""
CENTRE = np.array([0.0, 0.02, -0.075])
"""Middle of the skull, from which hats are measured, metres."""
ASIDE, HALF_NOSE = 1.09, 0.0085
"""Distance of the middles of rims from the middle of the face in that of the eyes; least distance of rims, metres."""
CLOTH = 64
"""Side of a texture of cloth, pixels."""


@dataclass(frozen=True, eq=False)
class WornAccessory:
    """A thing that a person wears."""

    name: str
    """Name of its surface."""
    shape: Shape
    """Its mesh at rest in the head's frame."""
    part: Part
    """Its class."""
    material: Material
    """Its material."""
    follows_shoulders: bool = False
    """True if it stays with the shoulders, False if it turns with the skull."""


def choose_accessories(identity_id: str) -> dict[str, str]:
    """Choose the accessories of a person: kind → style.

    Args:
        identity_id: Id of the person.
    """
    g = np.random.default_rng([seed_of(identity_id), 24])
    chosen: dict[str, str] = {}
    for kind, shares in STYLES.items():
        styles = ["none", *shares]
        style = str(g.choice(styles, p=[1 - sum(shares.values()), *shares.values()]))
        if style != "none" and not (kind == "headphones" and "hat" in chosen):
            chosen[kind] = style
    return chosen


def make_accessories(
    identity_id: str, styles: Mapping[str, str], head: Floats, eyes: Array, bust: Floats
) -> list[WornAccessory]:
    """Make the accessories of a person.

    Args:
        identity_id: Id of the person.
        styles: Its styles; see ``choose_accessories``.
        head: (V, 3) vertices of the head at rest, metres.
        eyes: (2, 3) centres of the left and the right eyeball, metres.
        bust: (B, 3) vertices of neck and shoulders at rest, metres.
    """
    g = np.random.default_rng([seed_of(identity_id), 25])
    made: list[WornAccessory] = []
    if style := styles.get("glasses"):
        made += _glasses(style, head, eyes, g)
    if style := styles.get("hat"):
        shape = merge([_dome(head, style), *([_visor(head)] if style == "cap" else [])])
        made.append(WornAccessory("hat", shape, Part.APPAREL, _cloth(g, style == "beanie")))
    if "headphones" in styles:
        plastic = Material(_flat(_colour(g, 0.25)), roughness=0.35, clearcoat=0.4)
        made.append(WornAccessory("headphones", _headphones(head), Part.APPAREL, plastic))
    if "scarf" in styles:
        made.append(WornAccessory("scarf", _scarf(bust, g), Part.APPAREL, _cloth(g, True), True))
    return made


def under_hat(hair: Floats, head: Floats) -> Floats:
    """Return vertices (P, 3) of hair pressed to the skull where a hat covers it.

    Args:
        hair: Vertices at rest, metres.
        head: (V, 3) vertices of the head at rest, metres.
    """
    away = hair - CENTRE
    distance = np.linalg.norm(away, axis=1).clip(1e-6)
    directions = away / distance[:, None]
    limit = skull_radius(head, directions) + 0.003
    covered = ((hair[:, 1] - _brim(directions)) / 0.02).clip(0, 1)
    pressed = np.minimum(distance, limit) * covered + distance * (1 - covered)
    return (CENTRE + directions * pressed[:, None]).astype(np.float32)


def skull_radius(head: Floats, directions: Array) -> Array:
    """Return the distances (N,) from ``CENTRE`` to the head, without its ears, along unit directions (N, 3), metres."""
    away = head[np.abs(head[:, 0]) < 0.078].astype(np.float64) - CENTRE
    away = away[away[:, 1] > -0.06]
    distance = np.linalg.norm(away, axis=1)
    nearness = np.exp(60.0 * (directions @ (away / distance[:, None]).T - 1))
    return (nearness * distance).sum(1) / nearness.sum(1).clip(1e-12)


def _glasses(style: str, head: Floats, eyes: Array, g: np.random.Generator) -> list[WornAccessory]:
    """Make frames and lenses."""
    width, height = {"round": (0.0225, 0.0215), "half": (0.024, 0.015)}.get(style, (0.0255, 0.019))
    power = {"round": 2.0, "half": 3.0}.get(style, 3.6)
    scale, thin = float(g.uniform(1.0, 1.2)), float(g.uniform(0.0008, 0.002))
    near = head[(np.abs(head[:, 1]) < 0.015) & (np.abs(np.abs(head[:, 0]) - 0.032) < 0.02)]
    nose = head[(np.abs(head[:, 0]) < 0.008) & (np.abs(head[:, 1]) < 0.008), 2].max(initial=0.0)
    front = max(float(near[:, 2].max()) - 0.002, float(eyes[:, 2].max()) + 0.022, float(nose) + 0.001)
    width *= min(scale, (float(np.abs(eyes[:, 0]).min()) * ASIDE - HALF_NOSE) / width)
    angle = np.linspace(0, 2 * np.pi, 36, endpoint=False)
    c, s = np.cos(angle), np.sin(angle)
    round_ = (np.abs(c) ** power + np.abs(s) ** power) ** (-1 / power)
    rims = []
    for eye in eyes:
        x = eye[0] * ASIDE + width * c * round_
        y = eye[1] - 0.003 + scale * height * s * round_
        rims.append(np.stack([x, y, front - 1.6 * x**2 - 0.12 * (eye[1] - y)], 1))
    bridge_z = front - 0.001 + 0.004 * np.array([0, 0.8, 1, 0.8, 0])
    inner = [rim[np.abs(rim[:, 0]).argmin()] for rim in rims]
    bridge = np.stack([np.linspace(inner[0][0], inner[1][0], 5), inner[0][1] + 0.004 + 0 * bridge_z, bridge_z], 1)
    parts = [tube(rim, (thin, thin), np.array([0.0, 0, 1]), closed=True, sides=6) for rim in rims]
    parts.append(tube(bridge, (thin, thin), np.array([0.0, 1, 0]), sides=6))
    parts += [_arm(rim, head, thin) for rim in rims]
    metal = g.random() < 0.4
    frame = Material(
        _flat(_colour(g, 0.45 if metal else 0.2)), roughness=0.3, specular=0.5 if metal else 0.05, clearcoat=0.5
    )
    dark = style == "sunglasses"
    tint = np.array([[[20, 20, 24, 225 if dark else int(g.integers(4, 22))]]], np.uint8)
    lens = Material(tint, roughness=0.1, specular=0.0, clearcoat=1.0, alpha_mode="blend")
    discs = merge([fan(rim, np.array([0, 0, 0.002])) for rim in rims])
    return [
        WornAccessory("glasses", merge(parts), Part.GLASSES, frame),
        WornAccessory("glasses_lenses", discs, Part.GLASSES, lens),
    ]


def _arm(rim: Array, head: Floats, thin: float) -> Shape:
    """Return the arm of glasses from the outer end of a rim to behind the ear."""
    side = np.sign(rim[:, 0].mean())
    hinge = rim[np.abs(rim[:, 0]).argmax()]
    mine = head[(np.abs(head[:, 1]) < 0.02) & (head[:, 0] * side > 0)]
    depth = np.array([-0.01, -0.03, -0.05, -0.07, -0.085])
    wide = [float((mine[np.abs(mine[:, 2] - z) < 0.015, 0] * side).clip(0, 0.08).max(initial=0.06)) for z in depth]
    x = np.maximum(np.array(wide) + 0.002, abs(hinge[0]) - 0.002)
    path = np.stack([side * x, np.full(5, hinge[1] + 0.004) + 0.006 * np.linspace(0, 1, 5), depth], 1)
    end = path[-1] + np.array([[-0.002 * side, -0.012, -0.012], [-0.004 * side, -0.03, -0.018]])
    start = hinge + np.array([0, 0.003, 0])
    return tube(np.concatenate([start[None], path, end]), (1.6 * thin, thin), np.array([0.0, 1, 0.2]), sides=6)


def _directions(azimuth: Array, elevation: Array) -> Array:
    ca, sa, ce, se = np.cos(azimuth), np.sin(azimuth), np.cos(elevation), np.sin(elevation)
    return np.stack([sa * ce, se + 0 * ca, ca * ce], -1)


def _brim(directions: Array) -> Array:
    """Return the heights (...) of a hat's brim around the head: above the brows, and lower behind."""
    front = directions[..., 2] / np.hypot(directions[..., 0], directions[..., 2]).clip(1e-6)
    return 0.028 + 0.03 * front


def _dome(head: Floats, style: str) -> Shape:
    """Return the part of a hat that covers the skull."""
    azimuth = np.linspace(0, 2 * np.pi, 41)
    level = np.linspace(0, 1, 13)[:, None]
    flat = _directions(azimuth[None], np.zeros((1, 1)))
    lowest = np.arctan2(_brim(flat) - CENTRE[1], 0.09)
    directions = _directions(azimuth[None] + 0 * level, lowest + level * (np.pi / 2 - lowest))
    radius = skull_radius(head, directions.reshape(-1, 3)).reshape(directions.shape[:2])
    slack = 0.008 + (0.02 if style == "beanie" else 0.008) * level**2
    if style == "beanie":
        slack = slack + 0.005 * (level < 0.3)
    points = CENTRE + directions * (radius + slack)[..., None]
    inner = CENTRE + directions[:1] * (radius[:1] + 0.001)[..., None]
    return grid(np.concatenate([inner, points]), (44.0, 10.0))


def _visor(head: Floats) -> Shape:
    """Return the visor of a cap."""
    azimuth, out = np.linspace(-1.0, 1.0, 17), np.linspace(0, 1, 6)[:, None]
    flat = _directions(azimuth[None], np.zeros((1, 1)))
    lowest = np.arctan2(_brim(flat) - CENTRE[1], 0.09)
    directions = _directions(azimuth[None], lowest)
    radius = skull_radius(head, directions.reshape(-1, 3)).reshape(directions.shape[:2])
    rim = CENTRE + directions * (radius + 0.006)[..., None]
    reach = 0.065 * np.cos(azimuth * np.pi / 2) ** 0.7
    top = rim + out[..., None] * np.stack([0.15 * reach * np.sin(azimuth), -0.25 * reach, reach], -1)
    bottom = top[::-1] + np.array([0, -0.0025, 0])
    return grid(np.concatenate([bottom, top])[::-1], (4.0, 4.0))


def _headphones(head: Floats) -> Shape:
    """Return a band over the head and two cushions on the ears."""
    turn = np.linspace(-np.pi / 2 - 0.05, np.pi / 2 + 0.05, 33)
    directions = np.stack([np.sin(turn), np.cos(turn), 0 * turn], -1)
    centre = np.array([0, -0.005, 0.0])
    band = CENTRE + centre + directions * (skull_radius(head, directions) + 0.014 + 0.004 * np.sin(turn) ** 8)[:, None]
    parts = [tube(band, (0.003, 0.012), directions)]
    ear = float(np.abs(head[:, 0]).max())
    angle = np.linspace(0, 2 * np.pi, 25)
    profile = np.array([(0, 0.03), (0.7, 0.028), (1.0, 0.016), (0.95, 0.004), (0.8, -0.004), (0, -0.004)])
    for side in (-1.0, 1.0):
        ring = np.stack([0 * angle, np.cos(angle) * 0.036, side * np.sin(angle) * 0.03], -1)
        points = profile[:, :1, None] * ring + np.array([side, 0, 0]) * (ear - 0.012 + profile[:, 1:, None])
        parts.append(grid(points + np.array([0, -0.008, -0.083])))
    return merge(parts)


def _scarf(bust: Floats, g: np.random.Generator) -> Shape:
    """Return two turns of cloth around the neck."""
    turn = np.linspace(0, 4 * np.pi, 97)
    neck = bust[(bust[:, 1] < -0.12) & (bust[:, 1] > -0.17)].astype(np.float64)
    centre = np.array([0, -0.15, float(np.median(neck[:, 2]))])
    away = neck[:, [0, 2]] - centre[[0, 2]]
    distance = np.linalg.norm(away, axis=1).clip(1e-6)
    facing = np.stack([np.sin(turn), np.cos(turn)], -1)
    nearness = np.exp(20.0 * (facing @ (away / distance[:, None]).T - 1))
    radius = np.clip((nearness * distance).sum(1) / nearness.sum(1).clip(1e-12), 0.05, 0.085) + 0.016
    wave = 0.004 * np.sin(turn * g.uniform(1.3, 2.4) + g.uniform(0, 6)) + 0.012 * np.cos(turn / 2)
    height = -0.165 - 0.02 * np.cos(turn) * 0.8 + wave
    path = np.stack([facing[:, 0] * radius, height, centre[2] + facing[:, 1] * radius], -1)
    shape = tube(path, (0.026, 0.015), np.array([0.0, 1, 0]), sides=12)
    return Shape(shape.vertices, shape.triangles, shape.uv * np.array([6.0, 30.0], np.float32))


def _cloth(g: np.random.Generator, knitted: bool) -> Material:
    """Return a material of cloth, knitted in ribs or woven."""
    y, x = np.indices((CLOTH, CLOTH)) / CLOTH * 2 * np.pi
    relief = np.sin(x) + 0.5 * np.sin(8 * y + 2 * np.cos(x)) if knitted else 0.4 * np.sin(16 * x) * np.sin(16 * y)
    shade = 1 + 0.16 * relief + 0.05 * g.standard_normal((CLOTH, CLOTH))
    colour = np.array(_colour(g, 0.6, 0.12)) * shade[..., None]
    texture = np.concatenate([colour.clip(0, 255), np.full((CLOTH, CLOTH, 1), 255)], 2).astype(np.uint8)
    return Material(texture, roughness=0.9, specular=0.02)


def _colour(g: np.random.Generator, bright: float, dark: float = 0.06) -> tuple[float, float, float]:
    """Draw an sRGB colour that is mostly grey, from ``dark`` to ``bright`` of white."""
    grey, tint = g.uniform(dark, bright), g.normal(scale=0.35 if g.random() < 0.5 else 0.06, size=3)
    red, green, blue = (255 * np.clip(grey * (1 + tint), 0.02, 0.85)).tolist()
    return red, green, blue


def _flat(colour: Sequence[float]) -> NDArray[np.uint8]:
    return np.array([[[*colour, 255]]], np.uint8)
