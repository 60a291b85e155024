"""Hair and teeth of people without a kit, built for the mean head and bound to it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.media.srgb import decode_srgb, encode_srgb
from pipelines.studio.accessories import hair_curtain, teeth_band
from pipelines.studio.appearance import Appearance
from pipelines.studio.hair import CENTRE, hair_cover, hair_offset
from pipelines.studio.part_classes import Part
from pipelines.studio.people.figure import Material
from pipelines.studio.people.open_base import OpenBase
from pipelines.studio.people.plain_wear import Piece, bind_nearest, bind_to
from pipelines.studio.people.proxies import Proxy
from pipelines.studio.studio_head import JAW, StudioHead

Floats = NDArray[np.float32]
_NONE: NDArray[np.int64] = np.zeros(0, np.int64)
STRANDS = (64, 256)
"""Height and width of the texture of strands, pixels."""
COVERED, EAR = 0.5, 0.3
"""Least cover of the corners of a triangle under hair; largest mask of the ears there."""
LIFT = 0.0006
"""Least distance of hair from the skin, metres."""


def hair_piece(head: StudioHead, base: OpenBase, appearance: Appearance) -> Piece:
    """Build the hair as a shell over the part of the head that it covers.

    Args:
        head: The open head.
        base: Its base mesh.
        appearance: Appearance of the person, not bald.
    """
    ears, none = head.model.region("ears").numpy(), np.zeros(len(head.template), np.float32)
    offset = hair_offset(head.template, head.normals, ears, none, appearance) + LIFT * head.normals
    under = (hair_cover(head.template, appearance) > COVERED) & (ears < EAR)
    vertex, corners = np.unique(head.triangles[under[head.triangles].all(1)], return_inverse=True)
    triangles = corners.reshape(-1, 3).astype(np.int32)
    points = head.template[vertex]
    angle = np.arctan2(points[:, 0], points[:, 2] - CENTRE[2]) / (2 * np.pi)
    uv = np.stack([angle, 2 - 8 * points[:, 1]], 1)[triangles]
    uv[..., 0] += uv[..., 0] < uv[..., :1].max(1) - 0.5  # triangles over the seam behind the head
    index = np.repeat(base.head_vertex[vertex][:, None], 3, 1)
    thirds = np.full(index.shape, 1 / 3, np.float32)
    binding = bind_to((points + offset[vertex]).astype(np.float32), base, index, thirds)
    proxy = Proxy(triangles, uv.astype(np.float32), binding, _NONE)
    return Piece("hair", proxy, "hair", Part.HAIR, _textured(_strands(appearance), appearance.hair, 0.5))


def long_hair_piece(head: StudioHead, base: OpenBase, appearance: Appearance) -> Piece:
    """Build a curtain of hair that reaches from the scalp to the shoulders at the sides and the back.

    Args:
        head: The open head.
        base: Its base mesh.
        appearance: Appearance of the person, with long hair.
    """
    points, shade = hair_curtain(head, appearance)
    scalp = head.template[:, 1] > 0.05
    return Piece(
        "hair_long",
        _grid_proxy(points, base, base.head_vertex[scalp]),
        "hair",
        Part.HAIR,
        _textured(shade.T, appearance.hair, 0.5),
    )


def teeth_pieces(head: StudioHead, base: OpenBase) -> tuple[Piece, Piece]:
    """Build the upper and the lower row of teeth: curved bands behind the lips that are darker between the teeth.

    Args:
        head: The open head.
        base: Its base mesh.
    """
    return _teeth(head, base, upper=True), _teeth(head, base, upper=False)


def _teeth(head: StudioHead, base: OpenBase, upper: bool) -> Piece:
    points, colour = teeth_band(upper)
    jaw = head.weights[:, JAW]
    held = (jaw < 0.1) if upper else (jaw > 0.9)
    inside = held & (head.model.region("mouth_interior").numpy() > 0.5)
    rows = encode_srgb(np.ascontiguousarray(colour.swapaxes(0, 1), np.float32))
    material = Material(_opaque(rows), roughness=0.3, clearcoat=1.0)
    proxy = _grid_proxy(points, base, base.head_vertex[inside])
    if upper:
        return Piece("teeth_upper", proxy, "skull", Part.UPPER_TEETH, material)
    return Piece("teeth_lower", proxy, "jaw", Part.LOWER_TEETH, material)


def _strands(appearance: Appearance) -> NDArray[np.floating]:
    """Return the brightness (H, W) of strands that run down the texture, about 1; it repeats across."""
    g = np.random.default_rng(appearance.seed + 4)
    across = np.fft.rfft(g.standard_normal((STRANDS[0], STRANDS[1])), axis=1)
    streaks = np.fft.irfft(across, STRANDS[1], axis=1)
    smooth = streaks + np.roll(streaks, 1, 0) + np.roll(streaks, -1, 0) + 2 * streaks.mean(0) * np.sqrt(STRANDS[0])
    return np.clip(1 + 0.2 * smooth / smooth.std(), 0.4, 1.7)


def _textured(brightness: NDArray[np.floating], colour: tuple[float, float, float], roughness: float) -> Material:
    """Return a material of an sRGB colour, 0 to 1, times a brightness (H, W)."""
    linear = brightness[..., None] * decode_srgb(colour)
    return Material(_opaque(encode_srgb(linear.astype(np.float32))), roughness=roughness)


def _opaque(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.concatenate([rgb, np.full((*rgb.shape[:2], 1), 255, np.uint8)], 2)


def _grid_proxy(points: NDArray[np.floating], base: OpenBase, candidates: NDArray[np.int64]) -> Proxy:
    """Return a mesh over a grid of points (M, N, 3), bound to the nearest of base vertices."""
    m, n = points.shape[:2]
    index = np.arange(m * n).reshape(m, n)
    place = np.stack(np.meshgrid((np.arange(m) + 0.5) / m, (np.arange(n) + 0.5) / n, indexing="ij"), -1)
    corners, uv = (
        np.concatenate([np.stack([_four(array)[k] for k in order], 1) for order in ((0, 1, 2), (0, 2, 3))])
        for array in (index.reshape(m, n, 1), place)
    )
    binding = bind_nearest(points.reshape(-1, 3).astype(np.float32), base, candidates)
    return Proxy(corners[..., 0].astype(np.int32), uv.astype(np.float32), binding, _NONE)


def _four(grid: NDArray[Any]) -> list[NDArray[Any]]:
    """Return the four corners (C, K) of each cell of a grid (M, N, K)."""
    cells = grid[:-1, :-1], grid[:-1, 1:], grid[1:, 1:], grid[1:, :-1]
    return [corner.reshape(-1, grid.shape[2]) for corner in cells]
