"""Points of a figure's skin that are the 468 points of the face mesh, found once for each topology.

The mesh detector runs on images of people from several sides. Each point that it finds belongs to the visible skin
nearest to it in the image. The median over views and people is the point's place on the mean person.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from pipelines.media.cameras import Camera, aimed_camera
from pipelines.studio.people.figure import N_MESH, Figure, Pose, PosedFigure
from pipelines.studio.people.nearest import nearest_on_mesh
from pipelines.studio.rendering.geometry import drawables
from pipelines.studio.rendering.ray_renderer import RayRenderer, RayScene, build_ray_scene, camera_rays
from pipelines.studio.rendering.scene import StudioScene

Floats = NDArray[np.float32]
Detect = Callable[[NDArray[np.uint8]], NDArray[np.floating]]
"""A function from an RGB image (H, W, 3) to the face mesh (468, 3): x and y in pixels."""
SIZE, SPAN = 288, 0.29
"""Side of an image in pixels, and its span at the head in metres; the image resembles an aligned crop."""
TARGET = np.array([0.0, 0.005, 0.0])
"""Point at which the cameras look, in the head's frame, metres."""
VIEWS = ((0.0, 0.0), (-0.26, 0.0), (0.26, 0.0), (0.0, 0.14), (0.0, -0.14), (-0.15, 0.08), (0.15, 0.08))
"""Yaw and pitch of the cameras, radians."""
OPEN_JAW = Pose({"jawOpen": 0.5})
"""Pose in which the mouth is found, because the lips touch at rest."""
REACH = 0.006
"""Largest distance of a found point from the visible skin, metres."""


@dataclass(frozen=True)
class FoundPoints:
    """The 468 points on the triangles of the first surface of a topology."""

    triangles: NDArray[np.int64]
    """(468,) triangles; -1 for points that were not found."""
    weights: Floats
    """(468, 3) barycentric coordinates."""
    spread: Floats
    """(468,) median distance of a point's places from their median, metres; infinite for points that were not found."""


def find_mesh_points(
    figures: Sequence[Figure], detect: Detect, scene: StudioScene, mouth: NDArray[np.int64]
) -> FoundPoints:
    """Find the points of the face mesh on people of one topology.

    Args:
        figures: The people; their first surface is the skin.
        detect: The face-mesh detector.
        scene: Light and background.
        mouth: Indices of the points that are found with an open jaw.

    Returns:
        The points. A point whose places lie on no skin in half of the images is not found.
    """
    triangles = figures[0].surfaces[0].triangles.astype(np.int64)
    found = FoundPoints(np.full(N_MESH, -1), np.zeros((N_MESH, 3), np.float32), np.full(N_MESH, np.inf, np.float32))
    for pose, points in ((Pose(), np.setdiff1d(np.arange(N_MESH), mouth)), (OPEN_JAW, mouth)):
        posed = [figure.pose(pose) for figure in figures]
        mean = np.mean([each.vertices[0] for each in posed], axis=0)
        places = np.full((len(figures) * len(VIEWS), len(points), 3), np.nan)
        for index, (figure, each) in enumerate(zip(figures, posed, strict=True)):
            triangle, weights = _in_views(figure, each, detect, scene, points)
            rows = np.einsum("vpk,vpkc->vpc", weights, mean[triangles[triangle]])
            rows[triangle < 0] = np.nan
            places[index * len(VIEWS) : (index + 1) * len(VIEWS)] = rows
        seen = points[np.isfinite(places[..., 0]).mean(0) > 0.5]
        places = places[:, np.isin(points, seen)]
        median = np.nanmedian(places, axis=0)
        found.spread[seen] = np.nanmedian(np.linalg.norm(places - median, axis=2), axis=0)
        found.triangles[seen], found.weights[seen] = nearest_on_mesh(median, mean, triangles)
    return found


def _in_views(
    figure: Figure, posed: PosedFigure, detect: Detect, scene: StudioScene, points: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return triangles (views, P) of the skin, -1 for none, and barycentric coordinates (views, P, 3) of P points."""
    renderer, ray_scene = RayRenderer(samples=1), build_ray_scene(drawables(figure), posed)
    triangle, weights = np.full((len(VIEWS), len(points)), -1), np.zeros((len(VIEWS), len(points), 3))
    for view, (yaw, pitch) in enumerate(VIEWS):
        camera = aimed_camera(yaw, pitch, distance=1.0, target=TARGET, span=SPAN, size=SIZE)
        image = renderer.render(figure, posed, camera, scene, truth=False).rgb
        pixels = np.asarray(detect(image), np.float64)[points, :2]
        triangle[view], weights[view] = _skin_at(figure, posed, ray_scene, camera, pixels)
    return triangle, weights


def _skin_at(
    figure: Figure, posed: PosedFigure, scene: RayScene, camera: Camera, pixels: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return triangles (P,) and barycentric coordinates (P, 3) of the skin seen nearest to pixels (P, 2)."""
    fine = camera.resized(2 * camera.width, 2 * camera.height)
    origins, directions = camera_rays(fine)
    hit, u, v, _ = scene.hits(origins, directions)
    skin = np.flatnonzero((hit >= 0) & (hit < scene.starts[1]))
    corners = posed.vertices[0][figure.surfaces[0].triangles[hit[skin]]]
    facing = (np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]) * directions[skin]).sum(1) < 0
    skin = skin[facing]
    seen = np.stack([skin % fine.width + 0.5, skin // fine.width + 0.5], 1) / 2
    distance, nearest = cKDTree(seen).query(pixels)
    chosen = skin[nearest]
    near = distance * SPAN / SIZE <= REACH
    weights = np.stack([1 - u[chosen] - v[chosen], u[chosen], v[chosen]], 1)
    return np.where(near, hit[chosen], -1), weights.astype(np.float64)
