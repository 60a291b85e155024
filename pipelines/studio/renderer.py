"""A ray-cast mesh renderer (Embree, with shading in numpy) for images of known geometry, independent of Gaussians."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from embreex import rtcore_scene
from embreex.mesh_construction import TriangleMesh
from numpy.typing import NDArray

from pipelines.media.cameras import Camera
from pipelines.media.srgb import encode_srgb
from pipelines.studio.mesh import Mesh, sample_colours, vertex_normals

Floats = NDArray[np.float32]
WRAP = 0.15
"""Limit of diffuse light: a surface is lit if the cosine between normal and light exceeds -``WRAP``.

The limit is below zero because skin scatters light.
"""


@dataclass(frozen=True)
class Light:
    """A directional light."""

    direction: tuple[float, float, float]
    """Direction from the head to the light, in the mesh's frame."""
    colour: tuple[float, float, float]
    """Linear red, green and blue; with 1, a white surface that faces the light is fully lit."""
    shadows: bool = False
    """Cast shadows."""


@dataclass(frozen=True)
class Lighting:
    """Directional lights and ambient light."""

    lights: tuple[Light, ...]
    """Directional lights."""
    sky: tuple[float, float, float] = (0.35, 0.35, 0.37)
    """Ambient light from above: linear red, green, blue."""
    ground: tuple[float, float, float] = (0.2, 0.19, 0.18)
    """Ambient light from below: linear red, green, blue."""


@dataclass(frozen=True)
class Hits:
    """The nearest surface along each ray of an image; each pixel has ``samples`` x ``samples`` rays."""

    triangle: NDArray[np.int64]
    """(h, w) index of the triangle, -1 for no hit; h and w are the image's height and width times ``samples``."""
    u: Floats
    """(h, w) barycentric coordinate of corner 1."""
    v: Floats
    """(h, w) barycentric coordinate of corner 2."""
    depth: Floats
    """(h, w) z in the camera's frame, metres; infinity for no hit."""


@dataclass(frozen=True)
class RenderedImage:
    """A rendered image of height H and width W, with alpha, depth and normals."""

    rgb: NDArray[np.uint8]
    """(H, W, 3) sRGB, over the background."""
    alpha: Floats
    """(H, W) share of the pixel that the mesh covers, 0 to 1."""
    depth: Floats
    """(H, W) mean depth of the surface in the pixel (z in the camera's frame), metres; 0 for no surface."""
    normals: Floats
    """(H, W, 3) mean normal of the surface in the pixel, in the mesh's frame, not normalised; 0 for no surface."""


@dataclass(frozen=True)
class Scene:
    """A mesh with its acceleration structure, which is built once for any number of cameras."""

    mesh: Mesh
    normals: Floats
    """(V, 3) unit vertex normals."""
    embree: rtcore_scene.EmbreeScene
    """Acceleration structure of Embree."""


def build_scene(mesh: Mesh) -> Scene:
    """Build the scene of a mesh: its vertex normals and Embree's acceleration structure of its triangles."""
    embree = rtcore_scene.EmbreeScene()
    TriangleMesh(embree, np.ascontiguousarray(mesh.vertices[mesh.triangles], np.float32))
    return Scene(mesh, vertex_normals(mesh.vertices, mesh.triangles), embree)


def cast_rays(scene: Scene, camera: Camera, samples: int = 1) -> Hits:
    """Cast rays on a regular grid over a camera's image, limited to the bounding box of the projected mesh.

    Args:
        scene: The scene, in the frame that the camera's ``world_to_camera`` maps to the camera.
        camera: The camera.
        samples: Number of rays along each edge of a pixel; 2 gives 4 rays per pixel.

    Returns:
        The nearest hit of each ray, as arrays (height x samples, width x samples).
    """
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
    # Directions have z = 1 in the camera's frame, so that the ray's length parameter is the depth.
    directions = (pixel @ np.linalg.inv(camera.K).T @ camera.world_to_camera[:, :3]).astype(np.float32)
    origins = np.broadcast_to(camera.centre.astype(np.float32), directions.shape)
    nearest = scene.embree.run(
        np.ascontiguousarray(origins), np.ascontiguousarray(directions), query="INTERSECT", output=True
    )
    window, shape = np.s_[y0:y1, x0:x1], x.shape
    hit = nearest["primID"].reshape(shape) >= 0
    triangle[window] = nearest["primID"].reshape(shape)
    u[window], v[window] = nearest["u"].reshape(shape), nearest["v"].reshape(shape)
    depth[window] = np.where(hit, nearest["tfar"].reshape(shape), np.inf)
    return Hits(triangle, u, v, depth)


def render_mesh(
    mesh: Mesh | Scene,
    camera: Camera,
    lighting: Lighting,
    background: NDArray[np.floating] | tuple[float, float, float] = (0.0, 0.0, 0.0),
    samples: int = 2,
) -> RenderedImage:
    """Render a mesh.

    Shading is diffuse (lit slightly beyond a right angle, like skin) and glossy (Blinn and Phong), with shadows of the
    lights that cast them. It is computed in linear light and then encoded as sRGB.

    Args:
        mesh: Mesh with colours, in the frame that the camera's ``world_to_camera`` maps to the camera. A ``Scene``
            saves time if several cameras render the same mesh.
        camera: The camera.
        lighting: Lighting in the mesh's frame.
        background: Linear red, green and blue from 0 to 1, as one colour or as an image (H, W, 3).
        samples: Number of rays along each edge of a pixel; 2 gives 4 rays per pixel.

    Returns:
        The image with alpha, depth and normals.
    """
    scene = mesh if isinstance(mesh, Scene) else build_scene(mesh)
    hits = cast_rays(scene, camera, samples)
    covered = hits.triangle >= 0
    triangle, u, v = hits.triangle[covered], hits.u[covered], hits.v[covered]
    corners = scene.mesh.triangles[triangle]
    weights = np.stack([1 - u - v, u, v], 1)
    point = _interpolate(scene.mesh.vertices, corners, weights)
    to_eye = _unit(camera.centre.astype(np.float32) - point)
    normal = _unit(_interpolate(scene.normals, corners, weights))
    # A surface seen from behind (inside the mouth, under hair): turn its normal towards the camera.
    normal *= np.where(_dot(normal, to_eye) < 0, np.float32(-1), np.float32(1))[:, None]
    shaded = _shade(scene, point, normal, to_eye, sample_colours(scene.mesh, triangle, u, v), lighting)

    layers = np.zeros((*covered.shape, 8), np.float32)
    layers[covered] = np.concatenate(
        [shaded, np.ones((len(u), 1), np.float32), hits.depth[covered][:, None], normal], axis=1
    )
    tiles = layers.reshape(camera.height, samples, camera.width, samples, 8)
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


def _dot(a: Floats, b: Floats) -> Floats:
    """Return the dot products (N,) of the rows of (N, 3) and (N, 3)."""
    return np.einsum("ij,ij->i", a, b)


def _unit(vectors: Floats) -> Floats:
    """Return the vectors (N, 3) scaled to length 1."""
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
    """Return the linear light (N, 3) that points with unit normals and colours (N, 4) reflect towards the camera."""
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


def _visible(scene: Scene, point: Floats, normal: Floats, direction: Floats, facing: NDArray[np.bool_]) -> Floats:
    """Return the visibility (N,) of a light at points that face it (``facing``): 1, or 0.25 in shadow."""
    visible = np.ones(len(point), np.float32)
    origins = np.ascontiguousarray(point[facing] + 1.5e-3 * normal[facing])
    rays = np.ascontiguousarray(np.broadcast_to(direction, origins.shape), np.float32)
    # The shadow is not black, because skin scatters light.
    visible[facing] = np.where(scene.embree.run(origins, rays, query="OCCLUDED") >= 0, 0.25, 1.0)
    return visible
