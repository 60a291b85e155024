"""A ray-cast mesh renderer (Embree), shaded in numpy: pictures with known geometry that no Gaussian made."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from embreex import rtcore_scene
from embreex.mesh_construction import TriangleMesh
from numpy.typing import NDArray

from pipelines.media.cameras import Camera
from pipelines.studio.mesh import Mesh, sample_colours, vertex_normals

Floats = NDArray[np.float32]
WRAP = 0.15
"""How far past a right angle light still reaches: skin scatters."""


@dataclass(frozen=True)
class Light:
    """A directional light. ``direction`` (3,) points from the head to the light, in the mesh's frame."""

    direction: tuple[float, float, float]
    colour: tuple[float, float, float]
    """Linear red, green, blue; 1 lights a white surface that faces it fully."""
    shadows: bool = False


@dataclass(frozen=True)
class Lighting:
    """Directional lights over an ambient light from above and from below."""

    lights: tuple[Light, ...]
    sky: tuple[float, float, float] = (0.35, 0.35, 0.37)
    ground: tuple[float, float, float] = (0.2, 0.19, 0.18)


@dataclass(frozen=True)
class Hits:
    """The nearest surface along each ray of a picture, ``samples`` squared of them a pixel, row by row."""

    triangle: NDArray[np.int64]
    """(h, w) index, -1 for none; h and w count samples."""
    u: Floats
    v: Floats
    """(h, w) barycentric coordinates of corners 1 and 2."""
    depth: Floats
    """(h, w) z in the camera, metres; infinity for none."""


@dataclass(frozen=True)
class RenderedImage:
    """A picture and what lies behind it. Height H, width W."""

    rgb: NDArray[np.uint8]
    """(H, W, 3) sRGB, over the background."""
    alpha: Floats
    """(H, W) share of the pixel that the mesh covers, 0 to 1."""
    depth: Floats
    """(H, W) mean z in the camera of what covers the pixel, metres; 0 for none."""
    normals: Floats
    """(H, W, 3) mean normal of what covers the pixel, in the mesh's frame, not normalised where nothing is."""


@dataclass(frozen=True)
class Scene:
    """A mesh made ready for rays: build it once, render it from any number of cameras."""

    mesh: Mesh
    normals: Floats
    """(V, 3) unit vertex normals."""
    embree: rtcore_scene.EmbreeScene


def build_scene(mesh: Mesh) -> Scene:
    """Vertex normals, and Embree's acceleration structure over the triangles."""
    embree = rtcore_scene.EmbreeScene()
    TriangleMesh(embree, np.ascontiguousarray(mesh.vertices[mesh.triangles], np.float32))
    return Scene(mesh, vertex_normals(mesh.vertices, mesh.triangles), embree)


def cast(scene: Scene, camera: Camera, samples: int = 1) -> Hits:
    """Cast ``samples`` x ``samples`` rays a pixel, on a regular grid; only inside the mesh's outline box."""
    h, w = camera.height * samples, camera.width * samples
    triangle = np.full((h, w), -1, np.int64)
    u, v, depth = np.zeros((h, w), np.float32), np.zeros((h, w), np.float32), np.full((h, w), np.inf, np.float32)
    pixels, z = camera.project(scene.mesh.vertices)
    if (z > 1e-6).all():
        low, high = np.floor(pixels.min(0) * samples).astype(int), np.ceil(pixels.max(0) * samples).astype(int)
    else:
        low, high = np.zeros(2, int), np.array([w, h])
    x0, y0, x1, y1 = max(low[0], 0), max(low[1], 0), min(high[0], w), min(high[1], h)
    if x0 >= x1 or y0 >= y1:
        return Hits(triangle, u, v, depth)
    x, y = np.meshgrid((np.arange(x0, x1) + 0.5) / samples, (np.arange(y0, y1) + 0.5) / samples)
    pixel = np.stack([x, y, np.ones_like(x)], -1).reshape(-1, 3)
    # Directions with z = 1 in the camera, so that the ray's length parameter is the depth.
    directions = (pixel @ np.linalg.inv(camera.K).T @ camera.world_to_camera[:, :3]).astype(np.float32)
    origins = np.broadcast_to(camera.centre.astype(np.float32), directions.shape)
    found = scene.embree.run(
        np.ascontiguousarray(origins), np.ascontiguousarray(directions), query="INTERSECT", output=True
    )
    window, shape = np.s_[y0:y1, x0:x1], x.shape
    hit = found["primID"].reshape(shape) >= 0
    triangle[window] = found["primID"].reshape(shape)
    u[window], v[window] = found["u"].reshape(shape), found["v"].reshape(shape)
    depth[window] = np.where(hit, found["tfar"].reshape(shape), np.inf)
    return Hits(triangle, u, v, depth)


def render_mesh(
    mesh: Mesh | Scene,
    camera: Camera,
    lighting: Lighting,
    background: NDArray[np.floating] | tuple[float, float, float] = (0.0, 0.0, 0.0),
    samples: int = 2,
) -> RenderedImage:
    """Render a mesh.

    Args:
        mesh: with mesh colours, in the frame that the camera's ``world_to_camera`` takes; a ``Scene`` saves time
            where one mesh is seen by several cameras.
        camera: OpenCV axes, metres.
        lighting: in the mesh's frame.
        background: linear red, green, blue, one colour or (H, W, 3), 0 to 1.
        samples: rays along a pixel's edge; 2 gives 4 a pixel.

    Diffuse (wrapped a little, as skin is), glossy by Blinn and Phong, shadows where a light asks for them; shaded in
    linear light, then encoded as sRGB.
    """
    scene = mesh if isinstance(mesh, Scene) else build_scene(mesh)
    hits = cast(scene, camera, samples)
    covered = hits.triangle >= 0
    triangle, u, v = hits.triangle[covered], hits.u[covered], hits.v[covered]
    corners = scene.mesh.triangles[triangle]
    weights = np.stack([1 - u - v, u, v], 1)
    point = _interpolate(scene.mesh.vertices, corners, weights)
    to_eye = _unit(camera.centre.astype(np.float32) - point)
    normal = _unit(_interpolate(scene.normals, corners, weights))
    # Seen from behind (inside the mouth, under a fringe): the normal turns to the camera.
    normal *= np.where(_dot(normal, to_eye) < 0, np.float32(-1), np.float32(1))[:, None]
    shaded = _shade(scene, point, normal, to_eye, sample_colours(scene.mesh, triangle, u, v), lighting)

    samples_of = np.zeros((*covered.shape, 8), np.float32)
    samples_of[covered] = np.concatenate(
        [shaded, np.ones((len(u), 1), np.float32), hits.depth[covered][:, None], normal], axis=1
    )
    tiles = samples_of.reshape(camera.height, samples, camera.width, samples, 8)
    pooled = np.zeros((camera.height, camera.width, 8), np.float32)
    for i in range(samples):
        for j in range(samples):
            pooled += tiles[:, i, :, j]
    pooled /= samples**2
    alpha = pooled[..., 3:4]
    share = alpha.clip(1e-12)
    return RenderedImage(
        rgb=encode_srgb(pooled[..., :3] + (1 - alpha) * np.asarray(background, np.float32)),
        alpha=alpha[..., 0],
        depth=pooled[..., 4] / share[..., 0],
        normals=pooled[..., 5:] / share,
    )


def encode_srgb(linear: Floats) -> NDArray[np.uint8]:
    """8-bit sRGB of linear light in 0 to 1 (IEC 61966-2-1), clipped."""
    x = np.clip(linear, 0, 1)
    return (np.where(x <= 0.0031308, 12.92 * x, 1.055 * x ** (1 / 2.4) - 0.055) * 255 + 0.5).astype(np.uint8)


def decode_srgb(rgb: NDArray[np.floating] | tuple[float, float, float]) -> Floats:
    """Linear light of sRGB values in 0 to 1."""
    x = np.asarray(rgb, np.float32)
    return np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4).astype(np.float32)


def _dot(a: Floats, b: Floats) -> Floats:
    """(N,) of (N, 3) and (N, 3)."""
    return np.einsum("ij,ij->i", a, b)


def _unit(vectors: Floats) -> Floats:
    """(N, 3) of length one."""
    return vectors / np.sqrt(_dot(vectors, vectors)).clip(1e-12)[:, None]


def _interpolate(values: Floats, corners: NDArray[np.int64], weights: Floats) -> Floats:
    out = values[corners[:, 0]] * weights[:, :1]
    out += values[corners[:, 1]] * weights[:, 1:2]
    out += values[corners[:, 2]] * weights[:, 2:]
    return out


def _shade(
    scene: Scene,
    point: Floats,
    normal: Floats,
    to_eye: Floats,
    colours: Floats,
    lighting: Lighting,
) -> Floats:
    """(N, 3) linear light towards the camera from points with unit normals and colours (N, 4)."""
    albedo, gloss = colours[:, :3], colours[:, 3:]
    up = (normal[:, 1:2] + 1) / 2
    sky, ground = np.array(lighting.sky, np.float32), np.array(lighting.ground, np.float32)
    light_in = ground + up * (sky - ground)
    shine = np.zeros_like(albedo)
    for light in lighting.lights:
        direction = _unit(np.array([light.direction], np.float32))[0]
        colour = np.array(light.colour, np.float32)
        facing = normal @ direction
        lit = np.clip((facing + WRAP) / (1 + WRAP), 0, None)
        if light.shadows:
            lit = lit * _visible(scene, point, normal, direction, facing > -WRAP)
        close = np.clip(_dot(normal, _unit(to_eye + direction)), 0, 1)[:, None]
        exponent = 12 + 140 * gloss
        shine += ((lit > 0)[:, None] * gloss * (0.5 + gloss) * close**exponent) * colour
        light_in += lit[:, None] * colour
    return albedo * light_in + shine


def _visible(scene: Scene, point: Floats, normal: Floats, direction: Floats, wanted: NDArray[np.bool_]) -> Floats:
    """(N,) 1 where nothing stands between the point and the light; 0.25 in shadow, as skin scatters."""
    visible = np.ones(len(point), np.float32)
    origins = np.ascontiguousarray(point[wanted] + 1.5e-3 * normal[wanted])
    rays = np.ascontiguousarray(np.broadcast_to(direction, origins.shape), np.float32)
    visible[wanted] = np.where(scene.embree.run(origins, rays, query="OCCLUDED") >= 0, 0.25, 1.0)
    return visible
