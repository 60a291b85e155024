"""The reference renderer: rays on the CPU (Embree), shaded in numpy. It needs no driver, and is exact but slow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from embreex import rtcore_scene
from embreex.mesh_construction import TriangleMesh
from numpy.typing import NDArray

from pipelines.media.cameras import Camera
from pipelines.studio.rendering.development import background_light, develop
from pipelines.studio.rendering.geometry import SOLID_ALPHA, DrawableSurface, PosedSurface, drawables, pose_figure
from pipelines.studio.rendering.image import StudioImage, SurfaceTruth
from pipelines.studio.rendering.lookup import SurfaceHits, look_up
from pipelines.studio.rendering.scene import StudioScene
from pipelines.studio.rendering.shading import shade, unit

if TYPE_CHECKING:
    from pipelines.studio.people.figure import Figure, PosedFigure

Floats = NDArray[np.float32]
MAX_LAYERS = 12
"""Number of surfaces behind each other that a ray passes at most."""
STEP = 2e-5
"""Distance behind a surface from which a ray goes on, metres."""
LEAST_LIGHT = 0.004
"""Share of light below which a ray ends."""
SHADOW_BIAS, SHADOW_RADIUS, SHADOW_GRID = 0.002, 0.005, 3
"""Start of shadow rays (metres), half of the side of the square over which they are spread, rays along its side."""


@dataclass(frozen=True)
class RayScene:
    """A posed figure as one mesh with its acceleration structure."""

    drawn: tuple[DrawableSurface, ...]
    """Surfaces."""
    posed: tuple[PosedSurface, ...]
    """Their corners."""
    starts: NDArray[np.int64]
    """(S + 1,) number of triangles before each surface."""
    embree: rtcore_scene.EmbreeScene
    """Embree's structure of all triangles."""

    def hits(self, origins: Floats, directions: Floats) -> tuple[NDArray[np.int64], Floats, Floats, Floats]:
        """Return triangle (-1: none), barycentric u and v and distance of the nearest hits of N rays."""
        found = self.embree.run(
            np.ascontiguousarray(origins), np.ascontiguousarray(directions), query="INTERSECT", output=True
        )
        return found["primID"].astype(np.int64), found["u"], found["v"], found["tfar"]


class RayRenderer:
    """A ray caster for textured figures on the CPU."""

    name = "rays (CPU)"

    def __init__(self, samples: int = 2) -> None:
        """Set the quality.

        Args:
            samples: Rays along each edge of a pixel.
        """
        self._samples = samples
        self._kept: tuple[str, tuple[DrawableSurface, ...]] = ("", ())

    def render(
        self, figure: Figure, posed: PosedFigure, camera: Camera, scene: StudioScene, truth: bool = True
    ) -> StudioImage:
        """Render one image, see ``Renderer.render_views``."""
        return self.render_views(figure, posed, [camera], scene, truth)[0]

    def render_views(
        self,
        figure: Figure,
        posed: PosedFigure,
        cameras: Sequence[Camera],
        scene: StudioScene,
        truth: bool = True,
    ) -> list[StudioImage]:
        """Render a posed figure from several cameras, see ``Renderer.render_views``."""
        if self._kept[0] != figure.identity_id:
            self._kept = (figure.identity_id, drawables(figure))
        ray_scene = build_ray_scene(self._kept[1], posed)
        return [self._view(ray_scene, camera, scene, truth, index) for index, camera in enumerate(cameras)]

    def close(self) -> None:
        """Forget the figure."""
        self._kept = ("", ())

    def _view(self, ray_scene: RayScene, camera: Camera, scene: StudioScene, truth: bool, index: int) -> StudioImage:
        n = self._samples
        fine = camera.resized(camera.width * n, camera.height * n)
        light = trace_light(ray_scene, fine, scene).reshape(camera.height, n, camera.width, n, 4).mean((1, 3))
        matte = light[..., 3]
        linear = light[..., :3] + (1 - matte)[..., None] * background_light(scene, camera)
        rgb = develop(linear, scene.look, scene.noise_seed + index)
        if not truth:
            return StudioImage(rgb, matte, None, None)
        return StudioImage(rgb, matte, linear, trace_truth(ray_scene, camera))


def build_ray_scene(drawn: tuple[DrawableSurface, ...], posed: PosedFigure) -> RayScene:
    """Build the acceleration structure of a posed figure."""
    corners = pose_figure(drawn, posed)
    embree = rtcore_scene.EmbreeScene()
    mesh = np.concatenate([c.positions[d.triangles] for d, c in zip(drawn, corners, strict=True)])
    TriangleMesh(embree, np.ascontiguousarray(mesh, np.float32))
    return RayScene(drawn, corners, np.cumsum([0, *(len(d.triangles) for d in drawn)]), embree)


def trace_light(ray_scene: RayScene, camera: Camera, scene: StudioScene) -> Floats:
    """Return the person's light multiplied by alpha, and alpha, along the rays through pixel centres.

    Args:
        ray_scene: The posed figure.
        camera: The camera, of H x W pixels.
        scene: The light.

    Returns:
        (H x W, 4) light and alpha.
    """
    origins, directions = camera_rays(camera)
    out = np.zeros((len(origins), 4), np.float32)
    alive = np.arange(len(origins))
    for _ in range(MAX_LAYERS):
        hits, hit = _first_hits(ray_scene, origins[alive], directions[alive])
        alive = alive[hit]
        if not len(alive):
            break
        points = look_up(ray_scene.drawn, ray_scene.posed, hits)
        points = replace(points, shadow=shadows(ray_scene, hits.position, points.smooth, scene))
        light, alpha = shade(points, scene)
        passes = (1 - out[alive, 3])[:, None]
        out[alive] += passes * np.concatenate([light, alpha[:, None]], axis=1)
        origins[alive] = hits.position + STEP * directions[alive]
        alive = alive[out[alive, 3] < 1 - LEAST_LIGHT]
    return out


def trace_truth(ray_scene: RayScene, camera: Camera) -> SurfaceTruth:
    """Return the truth of the first solid surfaces along the rays through pixel centres."""
    origins, directions = camera_rays(camera)
    shape = (camera.height, camera.width)
    found = np.zeros((len(origins), 8), np.float32)
    alive = np.arange(len(origins))
    rotation = camera.world_to_camera[:, :3].astype(np.float32)
    for _ in range(MAX_LAYERS):
        hits, hit = _first_hits(ray_scene, origins[alive], directions[alive])
        alive = alive[hit]
        if not len(alive):
            break
        points = look_up(ray_scene.drawn, ray_scene.posed, hits)
        depth = hits.position @ rotation[2] + np.float32(camera.world_to_camera[2, 3])
        place = np.stack([depth, hits.uv[:, 0], hits.uv[:, 1], hits.part, hits.surface + 1], axis=1)
        solid = hits.texture_alpha >= SOLID_ALPHA
        found[alive[solid]] = np.concatenate([place, points.smooth @ rotation.T], axis=1)[solid]
        origins[alive] = hits.position + STEP * directions[alive]
        alive = alive[~solid]
    return SurfaceTruth(
        found[:, 0].reshape(shape),
        found[:, 5:].reshape(*shape, 3),
        found[:, 3].reshape(shape).astype(np.uint8),
        found[:, 4].reshape(shape).astype(np.int16) - 1,
        found[:, 1:3].reshape(*shape, 2),
    )


def camera_rays(camera: Camera) -> tuple[Floats, Floats]:
    """Return origins and unit directions (H x W, 3) of the rays through the centres of a camera's pixels."""
    x, y = np.meshgrid(np.arange(camera.width) + 0.5, np.arange(camera.height) + 0.5)
    pixels = np.stack([x, y, np.ones_like(x)], -1).reshape(-1, 3)
    directions = unit((pixels @ np.linalg.inv(camera.K).T @ camera.world_to_camera[:, :3]).astype(np.float32))
    return np.repeat(camera.centre.astype(np.float32)[None], len(directions), axis=0), directions


def shadows(ray_scene: RayScene, position: Floats, normal: Floats, scene: StudioScene) -> Floats:
    """Return the share (N,) of the key light that reaches points, over a small square of parallel rays."""
    if scene.key is None:
        return np.ones(len(position), np.float32)
    direction = np.array(scene.key.direction, np.float32)
    side = np.cross(direction, [0.0, 1.0, 0.0] if abs(direction[1]) < 0.9 else [1.0, 0.0, 0.0])
    side /= np.linalg.norm(side)
    offsets = np.linspace(-SHADOW_RADIUS, SHADOW_RADIUS, SHADOW_GRID, dtype=np.float32)
    start, ray = position + (normal + direction) * np.float32(SHADOW_BIAS), np.repeat(direction[None], len(position), 0)
    visible: Floats = np.zeros(len(position), np.float32)
    for x in offsets:
        for y in offsets:
            origin = (start + x * side + y * np.cross(direction, side)).astype(np.float32)
            visible += _reaches_light(ray_scene, origin, ray)
    return visible / np.float32(SHADOW_GRID**2)


def _reaches_light(ray_scene: RayScene, origins: Floats, directions: Floats) -> NDArray[np.bool_]:
    """Return whether rays (N, 3) pass every surface whose alpha is below ``SOLID_ALPHA``."""
    free, alive, origins = np.ones(len(origins), bool), np.arange(len(origins)), origins.copy()
    for _ in range(MAX_LAYERS):
        hits, hit = _first_hits(ray_scene, origins[alive], directions[alive])
        alive = alive[hit]
        if not len(alive):
            break
        solid = hits.texture_alpha >= SOLID_ALPHA
        free[alive[solid]] = False
        origins[alive] = hits.position + STEP * directions[alive]
        alive = alive[~solid]
    return free


def _first_hits(ray_scene: RayScene, origins: Floats, directions: Floats) -> tuple[SurfaceHits, NDArray[np.bool_]]:
    """Return the hits of the rays that hit something, and which of the N rays do."""
    triangle, u, v, distance = ray_scene.hits(origins, directions)
    hit = triangle >= 0
    position = origins[hit] + directions[hit] * distance[hit][:, None]
    surface = np.searchsorted(ray_scene.starts, triangle[hit], side="right") - 1
    local = triangle[hit] - ray_scene.starts[surface]
    weights = np.stack([1 - u[hit] - v[hit], u[hit], v[hit]], axis=1)
    return SurfaceHits.of(ray_scene.drawn, surface, local, weights, position, directions[hit]), hit
