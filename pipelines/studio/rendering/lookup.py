"""Textures, normals and materials of a figure at points that rays hit."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from pipelines.media.srgb import decode_srgb
from pipelines.studio.rendering.geometry import SOLID_ALPHA, DrawableSurface, PosedSurface, detail_texture
from pipelines.studio.rendering.shading import Points, sample_bilinear, unit
from pipelines.studio.rendering.wrinkles import STEP

Floats = NDArray[np.float32]
DECODE = decode_srgb(np.arange(256) / 255)
"""Linear light of 8-bit sRGB values."""


@dataclass(frozen=True)
class SurfaceHits:
    """N points of surfaces."""

    surface: NDArray[np.int64]
    """(N,) index of the surface."""
    triangle: NDArray[np.int64]
    """(N,) index of its triangle."""
    weights: Floats
    """(N, 3) barycentric coordinates."""
    position: Floats
    """(N, 3) position, metres, world."""
    direction: Floats
    """(N, 3) unit direction of the ray."""
    uv: Floats
    """(N, 2) texture coordinates."""
    part: NDArray[np.uint8]
    """(N,) segmentation class."""
    texture_alpha: Floats
    """(N,) alpha of the texture."""

    @classmethod
    def of(
        cls,
        drawn: tuple[DrawableSurface, ...],
        surface: NDArray[np.int64],
        triangle: NDArray[np.int64],
        weights: Floats,
        position: Floats,
        direction: Floats,
    ) -> SurfaceHits:
        """Look up texture coordinates, parts and alpha of hits; arguments as the fields."""
        uv, part = np.zeros((len(surface), 2), np.float32), np.zeros(len(surface), np.uint8)
        alpha = np.ones(len(surface), np.float32)
        for index, each in enumerate(drawn):
            here = surface == index
            if here.any():
                corners = each.triangles[triangle[here]]
                uv[here] = np.einsum("nk,nkc->nc", weights[here], each.uv[corners])
                part[here] = each.part[corners[:, 0]]
                texture = each.surface.material.base_colour[..., 3:]
                if not (texture == 255).all():
                    alpha[here] = sample_bilinear(texture, uv[here, 0], uv[here, 1])[:, 0] / 255
        return cls(surface, triangle, weights, position, direction, uv, part, alpha)


def look_up(drawn: tuple[DrawableSurface, ...], posed: tuple[PosedSurface, ...], hits: SurfaceHits) -> Points:
    """Return the points that a camera sees at hits, fully lit by the key light."""
    count = len(hits.surface)
    vectors, scalars = np.zeros((3, count, 3), np.float32), np.zeros((8, count), np.float32)
    for index, (each, corners) in enumerate(zip(drawn, posed, strict=True)):
        here = hits.surface == index
        if here.any():
            vectors[:, here], scalars[:, here] = _surface_points(each, corners, hits, here)
    smooth, normal, base = vectors
    alpha, roughness, specular, subsurface, clearcoat, fibre, occlusion, shadow = scalars
    return Points(
        normal,
        smooth,
        -hits.direction,
        base,
        alpha,
        roughness,
        specular,
        subsurface,
        clearcoat,
        fibre,
        occlusion,
        shadow,
    )


def _surface_points(
    drawn: DrawableSurface, posed: PosedSurface, hits: SurfaceHits, here: NDArray[np.bool_]
) -> tuple[Floats, Floats]:
    """Return normals without and with detail and base colours (3, n, 3), and the other numbers (8, n) of ``Points``."""
    material, uv = drawn.surface.material, hits.uv[here]
    corners, weights = drawn.triangles[hits.triangle[here]], hits.weights[here]
    smooth = unit(np.einsum("nk,nkc->nc", weights, posed.normals[corners]))
    across, along, face = texture_axes(posed.positions[corners], drawn.uv[corners])
    back = np.einsum("nc,nc->n", face, hits.direction[here]) > 0
    smooth = np.where(back[:, None], -smooth, smooth)
    # OpenGL's derivatives run over the screen, so its axes are the same from both sides.
    detail = sample_bilinear(detail_texture_of(drawn), uv[:, 0], uv[:, 1])
    bend = (detail[:, :3] - np.float32(128)) / np.float32(127)
    if material.wrinkle_map is not None and posed.wrinkles.any():
        folds = sample_bilinear(material.wrinkle_map, uv[:, 0], uv[:, 1])
        strength = posed.wrinkles[np.rint(folds[:, 2] / STEP).astype(np.int64)]
        bend[:, :2] += (folds[:, :2] - np.float32(128)) / np.float32(127) * strength[:, None]
    normal = detailed_normal(smooth, across, along, bend)
    base = sample_bilinear(_decoded(drawn), uv[:, 0], uv[:, 1])
    alpha = hits.texture_alpha[here] if material.alpha_mode == "blend" else np.ones(len(uv))
    if material.alpha_mode == "cutout":
        alpha = (hits.texture_alpha[here] >= SOLID_ALPHA).astype(np.float32)
    occlusion = np.einsum("nk,nk->n", weights, drawn.occlusion[corners])
    flat = [material.specular, material.subsurface, material.clearcoat, float(drawn.fibre)]
    rows = [alpha, detail[:, 3] / 255, *(np.full(len(uv), value) for value in flat), occlusion, np.ones(len(uv))]
    if material.alpha_mode == "cutout":
        rows[4] = rows[4] * alpha
    return np.stack([smooth, normal, base]), np.stack(rows).astype(np.float32)


def texture_axes(corners: Floats, uv: Floats) -> tuple[Floats, Floats, Floats]:
    """Return unit vectors along u and v of the texture, and face normals, of triangles.

    Args:
        corners: (N, 3, 3) positions of the corners.
        uv: (N, 3, 2) their texture coordinates.

    Returns:
        Three arrays (N, 3); the face normals are not normalised.
    """
    first, second = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    (u1, v1), (u2, v2) = (uv[:, 1] - uv[:, 0]).T, (uv[:, 2] - uv[:, 0]).T
    sign = np.where(u1 * v2 - u2 * v1 < 0, -1, 1)[:, None].astype(np.float32)
    across, along = (
        sign * (first * v2[:, None] - second * v1[:, None]),
        sign * (second * u1[:, None] - first * u2[:, None]),
    )
    return unit(across), unit(along), np.cross(first, second).astype(np.float32)


def detailed_normal(normal: Floats, across: Floats, along: Floats, tangent_space: Floats) -> Floats:
    """Return unit normals (N, 3) with the detail of a normal map.

    Args:
        normal: (N, 3) unit normals.
        across: (N, 3) directions of the texture's u.
        along: (N, 3) directions of the texture's v, which points down.
        tangent_space: (N, 3) entries of the map from -1 to 1, its y up.
    """
    a = unit(across - normal * np.einsum("ij,ij->i", normal, across)[:, None])
    b = -along + normal * np.einsum("ij,ij->i", normal, along)[:, None]
    b = unit(b - a * np.einsum("ij,ij->i", a, b)[:, None])
    height = tangent_space[:, 2:].clip(0.1)
    return unit(a * tangent_space[:, :1] + b * tangent_space[:, 1:2] + normal * height)


@lru_cache(maxsize=32)
def _decoded(drawn: DrawableSurface) -> Floats:
    return DECODE[drawn.surface.material.base_colour[..., :3]]


@lru_cache(maxsize=32)
def detail_texture_of(drawn: DrawableSurface) -> NDArray[np.uint8]:
    """Return ``geometry.detail_texture`` of a surface, which is kept."""
    return detail_texture(drawn.surface.material)
