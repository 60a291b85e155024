"""Preparation of a figure's surfaces for renderers: corners with texture coordinates, normals and textures."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from pipelines.studio.rendering.occlusion import sky_visibility
from pipelines.studio.rendering.wrinkles import region_strengths

if TYPE_CHECKING:
    from pipelines.studio.people.figure import Figure, Material, PosedFigure, Surface

Floats = NDArray[np.float32]
FIBRES = ("hair", "beard", "brows", "lashes")
"""Beginnings of the names of surfaces that are shaded as hair."""
THIN = ("brows", "lashes", "glasses", "eye")
"""Beginnings of the names of surfaces that hide no light of the sky from others."""
SOLID_ALPHA = 0.5
"""Least alpha of the surface whose depth, normal, part and texture coordinates are the truth."""


@dataclass(frozen=True, eq=False)
class DrawableSurface:
    """A surface whose vertices are split where texture coordinates or parts differ."""

    surface: Surface
    """The surface."""
    vertex: NDArray[np.int32]
    """(C,) index of the surface's vertex, for each corner."""
    uv: Floats
    """(C, 2) texture coordinates, v down."""
    part: NDArray[np.uint8]
    """(C,) segmentation classes."""
    triangles: NDArray[np.int32]
    """(T, 3) indices of corners."""
    occlusion: Floats
    """(C,) share of the environment that a corner sees."""
    normals: sparse.csr_array
    """(V, T) matrix that sums the normals of triangles at vertices."""

    @property
    def fibre(self) -> bool:
        """True for hair, brows and lashes."""
        return self.surface.name.startswith(FIBRES)


@dataclass(frozen=True)
class PosedSurface:
    """Corners of a drawable surface in a pose."""

    positions: Floats
    """(C, 3) positions, metres, world."""
    normals: Floats
    """(C, 3) unit normals, world."""
    wrinkles: Floats
    """(8,) strengths of the regions of a wrinkle map."""


def drawable(surface: Surface) -> DrawableSurface:
    """Split the vertices of a surface at its seams, so that every corner has one position, coordinate and part.

    Args:
        surface: The surface.

    Raises:
        ValueError: An array's shape does not fit the triangles.
    """
    triangles = np.asarray(surface.triangles, np.int64)
    uv = np.asarray(surface.uv, np.float32)
    if uv.shape != (len(triangles), 3, 2):
        raise ValueError(f"surface {surface.name}: uv has the shape {uv.shape}, not ({len(triangles)}, 3, 2)")
    part = np.broadcast_to(np.asarray(surface.part, np.uint8).reshape(-1, 1), (len(triangles), 3)).reshape(-1)
    flat = triangles.reshape(-1)
    keys = np.empty((len(flat), 4), np.int32)
    keys[:, 0], keys[:, 1:3], keys[:, 3] = flat, uv.reshape(-1, 2).view(np.int32), part
    _, first, inverse = np.unique(keys.view([("", np.int32)] * 4).reshape(-1), return_index=True, return_inverse=True)
    count = int(flat.max()) + 1 if surface.occlusion is None else len(surface.occlusion)
    occlusion = np.ones(count, np.float32) if surface.occlusion is None else np.asarray(surface.occlusion, np.float32)
    rows = np.arange(len(triangles)).repeat(3)
    incidence = sparse.csr_array((np.ones(len(flat), np.float32), (flat, rows)), shape=(count, len(triangles)))
    vertex = flat[first]
    return DrawableSurface(
        surface,
        vertex.astype(np.int32),
        uv.reshape(-1, 2)[first],
        part[first],
        inverse.reshape(-1, 3).astype(np.int32),
        occlusion[vertex],
        incidence,
    )


def pose_surface(drawn: DrawableSurface, vertices: Floats, wrinkles: Floats) -> PosedSurface:
    """Return the corners of a surface whose vertices (V, 3) are posed, with normals weighted by area."""
    corners = vertices[drawn.surface.triangles]
    faces = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]).astype(np.float32)
    normals = drawn.normals @ faces
    normals /= np.sqrt(np.einsum("ij,ij->i", normals, normals)).clip(1e-20)[:, None]
    return PosedSurface(np.ascontiguousarray(vertices[drawn.vertex], np.float32), normals[drawn.vertex], wrinkles)


def pose_figure(drawn: tuple[DrawableSurface, ...], posed: PosedFigure) -> tuple[PosedSurface, ...]:
    """Return all surfaces of a posed figure.

    Raises:
        ValueError: The number of surfaces differs, or a vertex is not finite.
    """
    if len(drawn) != len(posed.vertices):
        raise ValueError(f"the pose has {len(posed.vertices)} arrays of vertices for {len(drawn)} surfaces")
    for each, vertices in zip(drawn, posed.vertices, strict=True):
        if not np.isfinite(vertices).all():
            raise ValueError(f"surface {each.surface.name}: a posed vertex is not finite; check the expression")
    strengths = region_strengths(posed.normal_strength)
    pairs = zip(drawn, posed.vertices, strict=True)
    return tuple(pose_surface(d, np.asarray(v, np.float32), strengths) for d, v in pairs)


def drawables(figure: Figure) -> tuple[DrawableSurface, ...]:
    """Return the drawable surfaces of a figure; occlusion that it does not bring is baked from its rest pose."""
    surfaces = figure.surfaces
    if all(surface.occlusion is not None for surface in surfaces):
        return tuple(drawable(surface) for surface in surfaces)
    from pipelines.studio.people.figure import Pose

    rest = figure.pose(Pose()).vertices
    blocks = [not surface.name.startswith(THIN) for surface in surfaces]
    baked = sky_visibility([np.asarray(v, np.float32) for v in rest], [s.triangles for s in surfaces], blocks)
    return tuple(
        drawable(s if s.occlusion is not None else replace(s, occlusion=shares))
        for s, shares in zip(surfaces, baked, strict=True)
    )


def detail_texture(material: Material) -> NDArray[np.uint8]:
    """Return the normal map with the roughness as its fourth channel (H, W, 4), for renderers.

    Args:
        material: The material; without a map the normal is straight.
    """
    roughness = material.roughness
    mapped = isinstance(roughness, np.ndarray)
    rough = np.asarray(roughness) if mapped else np.full((1, 1), np.round(255 * np.asarray(roughness)), np.uint8)
    normal = np.full((1, 1, 3), (128, 128, 255), np.uint8) if material.normal_map is None else material.normal_map
    height, width = max(rough.shape[0], normal.shape[0]), max(rough.shape[1], normal.shape[1])
    sized = [
        m if m.shape[:2] == (height, width) else cv2.resize(m, (width, height), interpolation=cv2.INTER_LINEAR)
        for m in (normal, rough)
    ]
    return np.ascontiguousarray(np.concatenate([sized[0], sized[1][..., None]], axis=-1))


def wrinkle_texture(material: Material) -> NDArray[np.uint8]:
    """Return a material's wrinkle map (H, W, 3), or one flat texel."""
    flat = np.full((1, 1, 3), (128, 128, 0), np.uint8)
    return flat if material.wrinkle_map is None else np.ascontiguousarray(material.wrinkle_map)
