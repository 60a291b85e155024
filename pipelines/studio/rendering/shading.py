"""The shading model in numpy. ``glsl`` states the same formulas for OpenGL, a test compares the two.

A surface has a diffuse and a glossy (GGX) part under the environment and two directional lights, a clear coat, and a
cheap subsurface term: the diffuse light of skin bends round edges, more in red than in green and blue. ``occlusion``
takes the place of shadows from the environment.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipelines.studio.rendering.environment import ROUGHNESS, harmonic_basis
from pipelines.studio.rendering.scene import DirectionalLight, StudioScene

Floats = NDArray[np.float32]
WRAP = (0.34, 0.16, 0.10)
"""Limit of diffuse light beyond a right angle, by channel, of a surface whose ``subsurface`` is 1."""
SCATTER_BAND_1 = (0.10, 0.03, 0.02)
"""Share of the environment's first band that scattering takes from each channel."""
SCATTER_BAND_2 = (0.40, 0.18, 0.14)
"""Share of the environment's second band that scattering takes from each channel."""
SCATTER_SMOOTHING = (0.65, 0.30, 0.25)
"""Share of a normal map's detail that scattering takes from the diffuse light of each channel."""
SCATTER_SHADOW = (0.45, 0.08, 0.0)
"""Distance of the exponents of shadows and occlusion from 1: their edges turn red."""
COAT_ROUGHNESS = 0.08
"""Roughness of a clear coat."""
COAT_F0 = 0.04
"""Reflectance of a clear coat at normal incidence."""
FIBRE_WRAP = 0.45
"""Limit of diffuse light beyond a right angle, of hair."""
FIBRE_GRAZE = 0.45
"""Least cosine at which hair mirrors the environment: strands are round, so that no edge of a card is a mirror."""


@dataclass(frozen=True, slots=True)
class Points:
    """N points of surfaces as the camera sees them."""

    normal: Floats
    """(N, 3) unit normals with the detail of normal maps, world axes, on the camera's side."""
    smooth: Floats
    """(N, 3) unit normals without it."""
    to_eye: Floats
    """(N, 3) unit vectors to the camera."""
    base: Floats
    """(N, 3) linear base colour."""
    alpha: Floats
    """(N,) share of light that the surface stops."""
    roughness: Floats
    """(N,) roughness, 0 to 1."""
    specular: Floats
    """(N,) reflectance at normal incidence."""
    subsurface: Floats
    """(N,) subsurface scattering, 0 to 1."""
    clearcoat: Floats
    """(N,) clear coat, 0 to 1."""
    fibre: Floats
    """(N,) 1 for hair, else 0."""
    occlusion: Floats
    """(N,) share of the environment that the point sees."""
    shadow: Floats
    """(N,) share of the key light that reaches the point."""


def shade(points: Points, scene: StudioScene) -> tuple[Floats, Floats]:
    """Return the linear light towards the camera, multiplied by alpha, and alpha.

    Args:
        points: N points.
        scene: Light and its rotation.

    Returns:
        (N, 3) light and (N,) alpha.
    """
    p, one = points, np.float32(1)
    s = p.subsurface[:, None]
    nv = _dot(p.normal, p.to_eye).clip(1e-3, 1)
    ambient = _tinted(p.occlusion, s)
    diffuse = scattered_irradiance(p, scene) * ambient
    mirror = reflect(p.to_eye, p.normal)
    nv_gloss = np.maximum(nv, np.float32(FIBRE_GRAZE) * p.fibre)
    gloss = _environment(scene, mirror, p.roughness) * environment_brdf(p.specular, p.roughness, nv_gloss)[:, None]
    gloss = gloss * specular_occlusion(nv, p.occlusion, p.roughness)[:, None]
    nv_coat = _dot(p.smooth, p.to_eye).clip(1e-3, 1)
    fresnel = p.clearcoat * (COAT_F0 + (1 - COAT_F0) * (1 - nv_coat) ** 5)
    coat = _environment(scene, reflect(p.to_eye, p.smooth), np.full_like(nv, COAT_ROUGHNESS)) * fresnel[:, None]
    coat = coat * specular_occlusion(nv_coat, p.occlusion, np.full_like(nv, COAT_ROUGHNESS))[:, None]
    for light, visible in ((scene.key, p.shadow), (scene.rim, p.occlusion)):
        if light is None:
            continue
        lit, shine, coat_shine = directional(p, light, nv, nv_coat)
        seen = _tinted(visible, s)
        diffuse = diffuse + lit * seen
        gloss = gloss + shine * visible[:, None]
        coat = coat + coat_shine * (p.clearcoat * visible)[:, None]
    body = p.base * diffuse * (one - fresnel[:, None]) + gloss
    return (body * p.alpha[:, None] + coat).astype(np.float32), p.alpha


def scattered_irradiance(p: Points, scene: StudioScene) -> Floats:
    """Return the environment's irradiance divided by pi (N, 3), softened by subsurface scattering."""
    out = np.empty_like(p.base)
    coefficients = scene.environment.harmonics * np.float32(scene.intensity)
    turn = scene.rotation().T
    for c in range(3):
        share = (p.subsurface * np.float32(SCATTER_SMOOTHING[c]))[:, None]
        basis = harmonic_basis(unit(p.normal + (p.smooth - p.normal) * share) @ turn).astype(np.float32)
        bands = basis * coefficients[:, c]
        keep_1, keep_2 = 1 - p.subsurface * SCATTER_BAND_1[c], 1 - p.subsurface * SCATTER_BAND_2[c]
        out[:, c] = bands[:, 0] + keep_1 * bands[:, 1:4].sum(1) + keep_2 * bands[:, 4:].sum(1)
    return out.clip(0)


def directional(p: Points, light: DirectionalLight, nv: Floats, nv_coat: Floats) -> tuple[Floats, Floats, Floats]:
    """Return the diffuse, glossy and clear-coat light (N, 3) of a directional light without shadows."""
    to_light, colour = np.array(light.direction, np.float32), np.array(light.colour, np.float32)
    wrap = np.maximum(p.subsurface[:, None] * np.array(WRAP, np.float32), p.fibre[:, None] * np.float32(FIBRE_WRAP))
    smoothing = p.subsurface[:, None] * np.array(SCATTER_SMOOTHING, np.float32)
    fine, smooth = p.normal @ to_light, p.smooth @ to_light
    facing = fine[:, None] + (smooth - fine)[:, None] * smoothing
    lit = ((facing + wrap) / (1 + wrap)).clip(0) / (1 + wrap) * colour
    half = unit(p.to_eye + to_light)
    shine = _ggx(p.roughness, p.specular, p.normal, half, p.to_eye, fine, nv)
    along = _dot(strand_direction(p.smooth), half)
    exponent = 4 / p.roughness.clip(0.1) ** 2
    strand = (1 - along**2).clip(0) ** (exponent / 2) * p.specular * (exponent + 2) / 8 * fine.clip(0)
    shine = shine + (strand - shine) * p.fibre
    coat = _ggx(np.full_like(nv, COAT_ROUGHNESS), np.full_like(nv, COAT_F0), p.smooth, half, p.to_eye, smooth, nv_coat)
    return lit, shine[:, None] * colour, coat[:, None] * colour


def strand_direction(smooth: Floats) -> Floats:
    """Return the direction (N, 3) of hair on a surface: it falls, so it is -y in the plane of the surface."""
    down = np.array([0, -1, 0], np.float32) + smooth * smooth[:, 1:2]
    return down / np.sqrt(_dot(down, down)).clip(1e-3)[:, None]


def environment_brdf(f0: Floats, roughness: Floats, nv: Floats) -> Floats:
    """Return the share (N,) of a filtered map that a glossy surface reflects (Karis' fit of 2014)."""
    x, y = 1 - roughness, 0.0425 - 0.0275 * roughness
    bend = np.minimum(x * x, np.exp2(-9.28 * nv)) * x + y
    return f0 * (1.04 - 0.572 * roughness - 1.04 * bend) + 1.04 * bend - 0.04 + 0.022 * roughness


def specular_occlusion(nv: Floats, occlusion: Floats, roughness: Floats) -> Floats:
    """Return the share (N,) of reflected light that occlusion leaves (Lagarde and de Rousiers 2014)."""
    return ((nv + occlusion) ** np.exp2(-16 * roughness - 1) - 1 + occlusion).clip(0, 1)


def reflect(to_eye: Floats, normal: Floats) -> Floats:
    """Return the mirrored directions (N, 3) of ``to_eye`` about normals."""
    return 2 * _dot(to_eye, normal)[:, None] * normal - to_eye


def unit(vectors: Floats) -> Floats:
    """Return vectors (N, 3) scaled to length 1."""
    return vectors / np.sqrt(_dot(vectors, vectors)).clip(1e-12)[:, None]


def sample_bilinear(
    image: NDArray[np.floating] | NDArray[np.uint8], u: Floats, v: Floats, wrap_v: bool = True
) -> Floats:
    """Return bilinear samples of a texture, as OpenGL takes them.

    Args:
        image: (H, W, C) texture.
        u: (N,) coordinates across, 1 is the width; they repeat.
        v: (N,) coordinates down.
        wrap_v: Repeat v; otherwise it is clamped.

    Returns:
        (N, C) samples.
    """
    h, w = image.shape[:2]
    x, y = u * w - 0.5, v * h - 0.5
    x0, y0 = np.floor(x), np.floor(y)
    fx, fy = (x - x0).astype(np.float32)[:, None], (y - y0).astype(np.float32)[:, None]
    left, top = x0.astype(np.int64) % w, y0.astype(np.int64)
    right = (left + 1) % w
    rows = [r % h if wrap_v else r.clip(0, h - 1) for r in (top, top + 1)]
    upper = image[rows[0], left] * (1 - fx) + image[rows[0], right] * fx
    lower = image[rows[1], left] * (1 - fx) + image[rows[1], right] * fx
    return (upper * (1 - fy) + lower * fy).astype(np.float32)


def map_coordinates(directions: Floats) -> tuple[Floats, Floats]:
    """Return the texture coordinates of unit directions (N, 3) in a map's axes."""
    u = np.arctan2(directions[:, 0], -directions[:, 2]) / (2 * np.pi) + 0.5
    return u.astype(np.float32), (0.5 - np.arcsin(directions[:, 1].clip(-1, 1)) / np.pi).astype(np.float32)


def _environment(scene: StudioScene, directions: Floats, roughness: Floats) -> Floats:
    """Return the filtered radiance (N, 3) from world directions (N, 3) at roughness (N,)."""
    u, v = map_coordinates(unit(directions) @ scene.rotation().T)
    level = np.interp(roughness, ROUGHNESS, np.arange(len(ROUGHNESS))).astype(np.float32)
    low = np.minimum(level.astype(np.int64), len(ROUGHNESS) - 2)
    out = np.zeros((len(u), 3), np.float32)
    for k in range(len(ROUGHNESS)):
        weight = np.where(low == k, 1 - (level - low), np.where(low + 1 == k, level - low, 0)).astype(np.float32)
        used = weight > 0
        if used.any():
            layer = scene.environment.layers[k]
            out[used] += weight[used, None] * sample_bilinear(layer, u[used], v[used], wrap_v=False)
    return out * np.float32(scene.intensity)


def _ggx(
    roughness: Floats, f0: Floats, normal: Floats, half: Floats, to_eye: Floats, facing: Floats, nv: Floats
) -> Floats:
    """Return the reflected light (N,) of GGX for a light of irradiance pi, with Schlick's Fresnel term."""
    a = roughness.clip(0.06) ** 2
    a2, nl = a * a, facing.clip(0, 1)
    nh = _dot(normal, half).clip(0, 1)
    fresnel = f0 + (1 - f0) * (1 - _dot(to_eye, half).clip(0, 1)) ** 5
    spread = a2 / ((nh * nh * (a2 - 1) + 1) ** 2)
    k = a / 2
    visible = 0.25 / ((nl * (1 - k) + k) * (nv * (1 - k) + k))
    return spread * visible * fresnel * nl


def _tinted(visible: Floats, subsurface: Floats) -> Floats:
    return visible[:, None] ** (1 - subsurface * np.array(SCATTER_SHADOW, np.float32))


def _dot(a: Floats, b: Floats) -> Floats:
    return np.einsum("ij,ij->i", a, b)
