"""Ambient occlusion of a person at rest, baked to vertices with Embree."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from embreex import rtcore_scene
from embreex.mesh_construction import TriangleMesh
from numpy.typing import NDArray
from scipy import sparse

from pipelines.studio.mesh import vertex_normals

Floats = NDArray[np.float32]
RAYS = 32
"""Number of rays a vertex."""
LIFT = 0.0015
"""Distance from the surface at which rays start, metres."""
SMOOTHING = 2
"""Number of times that a vertex takes the mean of itself and its neighbours, against the noise of few rays."""
LEAST = 0.08
"""Least share of the sky: what a surface hides is never black, because other surfaces reflect light to it."""


def sky_visibility(
    vertices: Sequence[Floats], triangles: Sequence[NDArray[np.int32]], blocks: Sequence[bool]
) -> list[Floats]:
    """Return the share of the sky that vertices see, weighted by the cosine to their normals.

    Args:
        vertices: (V, 3) vertices of each mesh, metres.
        triangles: (T, 3) triangles of each mesh.
        blocks: True for each mesh that hides the sky from others.

    Returns:
        (V,) shares of each mesh, from 0 to 1.
    """
    embree = rtcore_scene.EmbreeScene()
    solid = [v[t] for v, t, block in zip(vertices, triangles, blocks, strict=True) if block]
    TriangleMesh(embree, np.ascontiguousarray(np.concatenate(solid), np.float32))
    return [_mesh_visibility(embree, v, t) for v, t in zip(vertices, triangles, strict=True)]


def _mesh_visibility(embree: rtcore_scene.EmbreeScene, vertices: Floats, triangles: NDArray[np.int32]) -> Floats:
    normals = vertex_normals(vertices, triangles.astype(np.int64))
    side = np.where(np.abs(normals[:, 1:2]) < 0.9, [[0.0, 1.0, 0.0]], [[1.0, 0.0, 0.0]])
    across = np.cross(normals, side)
    across /= np.linalg.norm(across, axis=1, keepdims=True).clip(1e-12)
    along = np.cross(normals, across)
    origins = np.ascontiguousarray(vertices + LIFT * normals, np.float32)
    free = np.zeros(len(vertices))
    turn = np.arange(len(vertices)) * 2.399963
    for k in range(RAYS):
        radius, angle = np.sqrt((k + 0.5) / RAYS), k * 2.399963 + turn
        flat = radius * (np.cos(angle)[:, None] * across + np.sin(angle)[:, None] * along)
        directions = (flat + np.sqrt(1 - radius**2) * normals).astype(np.float32)
        free += embree.run(origins, directions, query="OCCLUDED") < 0
    share = _smooth(free / RAYS, triangles)
    return (LEAST + (1 - LEAST) * share).astype(np.float32)


def _smooth(values: NDArray[np.float64], triangles: NDArray[np.int32]) -> NDArray[np.float64]:
    rows, columns = triangles.reshape(-1), np.arange(len(triangles)).repeat(3)
    gather = sparse.csr_array((np.full(len(rows), 1 / 3), (columns, rows)), shape=(len(triangles), len(values)))
    count = np.bincount(rows, minlength=len(values)).clip(1)
    for _ in range(SMOOTHING):
        values = np.where(count > 0, (gather.T @ (gather @ values)) * 3 / count, values)
    return values.clip(0, 1)
