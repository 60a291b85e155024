"""Which points of a head's surface are the points of the 468-point face mesh: found by looking at renderings.

No licensed landmark file is needed: the mesh detector is run on pictures of the template from several sides and
under several lights, a ray is cast through each point, and the points on which the pictures agree are kept.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipelines.studio.appearance import random_appearance
from pipelines.studio.cameras import Camera, aimed_camera
from pipelines.studio.mesh import Mesh
from pipelines.studio.painting import paint
from pipelines.studio.renderer import Light, Lighting, Scene, build_scene, cast, render_mesh
from pipelines.studio.studio_head import ORDER, studio_head

if TYPE_CHECKING:
    from ffavatar_model.head import HeadModel

Floats = NDArray[np.float64]
Detect = Callable[[NDArray[np.uint8]], NDArray[np.floating]]
"""An RGB picture (H, W, 3) to the face mesh (468, 3): x and y in pixels, z on the same scale."""
N_MESH = 468
SIZE, SPAN = 384, 0.29
"""Pixels and metres across the pictures: the face lies in them as in an aligned crop."""
TARGET = np.array([0.0, 0.005, 0.0])
VIEWS = ((0.0, 0.0), (-0.26, 0.0), (0.26, 0.0), (0.0, 0.14), (0.0, -0.14), (-0.15, 0.08), (0.15, 0.08))
"""Yaw and pitch of the cameras, radians."""
LIGHTING = Lighting((Light((0.4, 0.5, 1.0), (0.6, 0.58, 0.55)), Light((-0.8, 0.2, 0.5), (0.25, 0.25, 0.28))))
MAX_SPREAD, MAX_SNAP = 0.004, 0.006
"""Metres: how far the views' points may lie from their middle, and how far a point on an eyeball from the lid."""
INNER = ("left_eye", "right_eye", "tongue", "mouth_interior")
"""Regions that no landmark may be bound to: a lid's point must not turn with the eyeball behind it."""


@dataclass(frozen=True)
class LandmarkCorrespondences:
    """L of the 468 points, on a head model's triangles."""

    index: NDArray[np.int64]
    """(L,) which of the 468, ascending."""
    triangles: NDArray[np.int64]
    """(L,)."""
    barycentric: NDArray[np.float32]
    """(L, 3)."""
    spread: NDArray[np.float32]
    """(L,) median distance of the views' points from their middle, metres."""


def find_landmarks(head: HeadModel, detect: Detect) -> LandmarkCorrespondences:
    """The correspondences of a head model (open or FLAME).

    Points that hit nothing in most views, or on whose place the views differ by more than ``MAX_SPREAD``, are left
    out. Raises ``ValueError`` when fewer than 100 remain: the detector did not take the rendering for a face.
    """
    template, triangles = head.template.numpy(), head.triangles.numpy()
    mesh, outer = _template_mesh(head)
    scene = build_scene(mesh)
    found = np.full((len(VIEWS), N_MESH, 3), np.nan)
    for v, (yaw, pitch) in enumerate(VIEWS):
        camera = aimed_camera(yaw, pitch, distance=1.0, target=TARGET, span=SPAN, size=SIZE)
        picture = render_mesh(scene, camera, LIGHTING, (0.35, 0.37, 0.4)).rgb
        triangle, weights = _surface_at(scene, camera, np.asarray(detect(picture))[:, :2])
        hit = triangle >= 0
        found[v, hit] = (template[triangles[triangle[hit]]] * weights[hit, :, None]).sum(1)
    enough = np.isfinite(found[..., 0]).sum(0) > len(VIEWS) / 2
    middle = np.full((N_MESH, 3), np.nan)
    middle[enough] = np.nanmedian(found[:, enough], axis=0)
    spread = np.full(N_MESH, np.inf)
    spread[enough] = np.nanmedian(np.linalg.norm(found[:, enough] - middle[enough], axis=2), axis=0)
    index = np.flatnonzero(spread <= MAX_SPREAD)
    triangle, weights, distance = closest_on_surface(middle[index], template, triangles, np.flatnonzero(outer))
    kept = distance <= MAX_SNAP
    if kept.sum() < 100:
        raise ValueError(f"only {int(kept.sum())} of {N_MESH} face-mesh points found on head model {head.name!r}")
    index = index[kept]
    return LandmarkCorrespondences(
        index, triangle[kept], weights[kept].astype(np.float32), spread[index].astype(np.float32)
    )


def open_head_with_landmarks(cache: Path, load_detector: Callable[[], Detect]) -> HeadModel:
    """The open head from a cache folder, with its landmarks; they are found, and stored in its file, the first time."""
    from ffavatar_model.head import save_head, with_landmarks
    from ffavatar_model.head.open_head import build_open_head, open_head_path

    head = build_open_head(cache)
    if head.n_landmarks:
        return head
    found = find_landmarks(head, load_detector())
    head = with_landmarks(head, found.index, found.triangles, found.barycentric)
    save_head(head, open_head_path(cache))
    return head


def _template_mesh(head: HeadModel) -> tuple[Mesh, NDArray[np.bool_]]:
    """The template, painted as far as the model's regions allow, and which triangles (F,) are outer skin."""
    template, triangles = head.template.numpy(), head.triangles.numpy()
    if not head.region_names:
        plain = np.broadcast_to(np.array([0.45, 0.30, 0.24, 0.1], np.float32), (len(triangles), 3, 4))
        return Mesh(template, triangles, plain, 1), np.ones(len(triangles), bool)
    look = replace(
        random_appearance("template"), skin=(0.82, 0.62, 0.50), lips=(0.72, 0.38, 0.36), lip_strength=0.8,
        hair=(0.14, 0.09, 0.06), hair_style="bald", brow_width=0.004, brow_strength=0.85, brow_height=0.0, beard=0.0,
        freckles=0, glasses=None, iris=(0.3, 0.2, 0.1),
    )  # fmt: skip
    regions = head.regions.numpy()
    lips = regions[:, head.region_names.index("lips")] > 0.5
    inner = regions[:, [head.region_names.index(name) for name in INNER]].max(1) > 0.5
    return Mesh(template, triangles, paint(studio_head(head), look), ORDER), ~(inner & ~lips)[triangles].any(1)


def _surface_at(scene: Scene, camera: Camera, pixels: NDArray[np.floating]) -> tuple[NDArray[np.int64], NDArray]:
    """Triangle (N,), -1 for none, and barycentric coordinates (N, 3) of what lies behind pixels (N, 2)."""
    triangle, weights = np.full(len(pixels), -1, np.int64), np.zeros((len(pixels), 3))
    for i, (x, y) in enumerate(pixels):
        # One-pixel picture whose only ray goes through (x, y).
        shift = np.array([[1, 0, 0.5 - x], [0, 1, 0.5 - y], [0, 0, 1]])
        hits = cast(scene, Camera(shift @ camera.K, camera.world_to_camera, 1, 1))
        triangle[i] = hits.triangle[0, 0]
        weights[i] = 1 - hits.u[0, 0] - hits.v[0, 0], hits.u[0, 0], hits.v[0, 0]
    return triangle, weights


def closest_on_surface(
    points: Floats, vertices: NDArray[np.floating], triangles: NDArray[np.int64], allowed: NDArray[np.int64]
) -> tuple[NDArray[np.int64], Floats, Floats]:
    """The closest points on the triangles in ``allowed``: triangle (N,), barycentric (N, 3), distance (N,).

    Only the 32 triangles whose centres are nearest are looked at: enough where triangles are of similar size.
    """
    from scipy.spatial import cKDTree
    from trimesh.triangles import closest_point, points_to_barycentric

    corners = vertices[triangles[allowed]].astype(np.float64)
    _, near = cKDTree(corners.mean(1)).query(points, k=min(32, len(allowed)))
    n, k = near.shape
    closest = closest_point(corners[near.ravel()], np.repeat(points, k, axis=0)).reshape(n, k, 3)
    distance = np.linalg.norm(closest - points[:, None], axis=2)
    best = distance.argmin(1)
    rows, which = np.arange(n), near[np.arange(n), best]
    weights = np.clip(points_to_barycentric(corners[which], closest[rows, best]), 0, 1)
    return allowed[which], weights / weights.sum(1, keepdims=True), distance[rows, best]
