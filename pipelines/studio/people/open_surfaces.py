"""The surfaces of a person of the open head: the skin of head and bust, and the proxies of a kit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipelines.studio.assets.kit import AssetKit
from pipelines.studio.part_classes import Part
from pipelines.studio.people.figure import Material, Surface
from pipelines.studio.people.hair_shapes import part_fringe
from pipelines.studio.people.open_base import OpenBase
from pipelines.studio.people.plain_wear import Follows, Piece, bind_nearest
from pipelines.studio.people.proxies import Proxy, read_proxy, split_jaws
from pipelines.studio.people.triangle_atlas import atlas_coordinates
from pipelines.studio.people.wardrobe import KINDS, flat
from pipelines.studio.people.worn_accessories import make_accessories, under_hat

if TYPE_CHECKING:
    from ffavatar_model.head import HeadModel

Floats = NDArray[np.float32]
FOLLOWS: dict[str, Follows] = {"hair": "hair", "clothes": "shoulders", "eyes": "eyes"}
"""Kind of proxy → what it follows; the others follow the skin."""
PARTS = {
    "hair": Part.HAIR,
    "clothes": Part.APPAREL,
    "teeth_upper": Part.UPPER_TEETH,
    "teeth_lower": Part.LOWER_TEETH,
    "tongue": Part.TONGUE,
}
"""Name of the surface → its class; others belong to the body."""
DOUBLES = {"eyes": ("left_eye", "right_eye"), "tongue": ("tongue",)}
"""Kind of proxy → regions of the open head that it replaces."""
SKIN_COLOUR, CLOTH_COLOUR = (200.0, 160.0, 140.0), (70.0, 75.0, 90.0)
MOUTH_LIGHT, MOUTH_DEPTH = (0.75, 0.15), 0.03
"""Shares of the sky that teeth and tongue see in front and behind; the distance between the two, metres.

They are not baked, because the mouth is shut at rest.
"""
LIP = 0.5
"""Least value of the mask of the lips in a triangle of a lip."""
SOFT, FIRM = 0.05, 60
"""Value of the tongue's mask above which a vertex moves with it; least number of vertices that tell a jaw's motion."""


@dataclass(frozen=True, eq=False)
class WornProxy:
    """A proxy on a person."""

    proxy: Proxy
    """Mesh and binding."""
    rest: Floats
    """(P, 3) vertices at rest, metres."""
    follows: Follows
    """Part of the person that moves it."""
    used: NDArray[np.int64]
    """Vertices of the surface by which a rigid motion is found: those that do not move with the tongue."""


def build_surfaces(
    head: HeadModel,
    base: OpenBase,
    rest: Floats,
    kit: AssetKit | None,
    wardrobe: Mapping[str, str],
    materials: Mapping[str, Material],
    pieces: Sequence[Piece] = (),
) -> tuple[NDArray[np.int64], tuple[Surface, ...], tuple[WornProxy, ...]]:
    """Build the surfaces of a person.

    Args:
        head: The open head.
        base: Its base mesh.
        rest: (N, 3) base mesh of the person at rest, metres.
        kit: Kit of proxies, or None.
        wardrobe: Kind of asset → its name in the kit.
        materials: Name of the surface → its material.
        pieces: What a person wears without a kit.

    Returns:
        Base vertices (V,) of the skin; the skin's surface and those of the proxies; and the proxies.
    """
    surfaces, worn = [], []
    hidden, tongue = np.zeros(len(rest), bool), np.zeros(len(rest), bool)
    tongue[base.head_vertex] = head.region("tongue").numpy() > SOFT
    doubled: list[str] = []
    for kind in KINDS if kit is not None else ():
        if kit is None or kind not in wardrobe:
            continue
        place = f"{kind}/{wardrobe[kind]}.npz"
        proxy = read_proxy(kit.arrays(place), place)
        doubled += DOUBLES.get(kind, ())
        if kind == "clothes":
            hidden[proxy.hides] = True
        fitted = proxy.binding.fit(rest)
        if kind == "hair" and "fringe" not in wardrobe:
            fitted = part_fringe(fitted)
        for name, triangles, corners, follows in _pieces(kind, proxy, rest):
            material = materials.get(name, materials.get(kind, Material(flat(CLOTH_COLOUR))))
            light = mouth_light(fitted) if kind in ("teeth", "tongue") else None
            surfaces.append(Surface(name, triangles, corners, PARTS.get(name, Part.BODY), material, light))
            used = np.unique(triangles).astype(np.int64)
            firm = used[~tongue[proxy.binding.index[used]].any(1)]
            worn.append(WornProxy(proxy, fitted, follows, firm if len(firm) >= FIRM else used))
    for piece in pieces:
        fitted = piece.proxy.binding.fit(rest)
        surfaces.append(Surface(piece.name, piece.proxy.triangles, piece.proxy.uv, piece.part, piece.material))
        worn.append(WornProxy(piece.proxy, fitted, piece.follows, np.arange(len(fitted))))
    skin_vertex, skin = _skin(head, base, hidden, doubled, kit, materials)
    return skin_vertex, (skin, *surfaces), tuple(worn)


def wear_accessories(
    identity_id: str,
    styles: Mapping[str, str],
    base: OpenBase,
    rest: Floats,
    eyes: NDArray[np.float64],
    surfaces: tuple[Surface, ...],
    worn: tuple[WornProxy, ...],
) -> tuple[tuple[Surface, ...], tuple[WornProxy, ...]]:
    """Return surfaces and proxies with a person's accessories; a hat presses the hair.

    Args:
        identity_id: Id of the person.
        styles: Its styles.
        base: The base mesh.
        rest: (N, 3) base mesh of the person at rest, metres.
        eyes: (2, 3) centres of the left and the right eyeball, metres.
        surfaces: Surfaces so far; the skin is the first.
        worn: Proxies so far, in the order of ``surfaces[1:]``.
    """
    head, bust = rest[base.head_vertex], rest[base.bust_vertex]
    if "hat" in styles:
        worn = tuple(replace(w, rest=under_hat(w.rest, head)) if w.follows == "hair" else w for w in worn)
    for made in make_accessories(identity_id, styles, head, eyes, bust):
        shape = made.shape
        follows: Follows = "shoulders" if made.follows_shoulders else "skull"
        binding = bind_nearest(shape.vertices, base, base.bust_vertex)
        proxy = Proxy(shape.triangles, shape.uv, binding, np.zeros(0, np.int64))
        surfaces = (*surfaces, Surface(made.name, shape.triangles, shape.uv, made.part, made.material))
        worn = (*worn, WornProxy(proxy, shape.vertices, follows, np.arange(len(shape.vertices))))
    return surfaces, worn


def _pieces(kind: str, proxy: Proxy, rest: Floats) -> list[tuple[str, NDArray[np.int32], Floats, Follows]]:
    """Return the surfaces of a proxy: name, triangles (T, 3), coordinates (T, 3, 2) and what it follows."""
    if kind != "teeth":
        return [(kind, proxy.triangles, proxy.uv, FOLLOWS.get(kind, "skin"))]
    lower = split_jaws(proxy.binding.fit(rest), proxy.triangles)[proxy.triangles[:, 0]]
    return [
        ("teeth_upper", proxy.triangles[~lower], proxy.uv[~lower], "skull"),
        ("teeth_lower", proxy.triangles[lower], proxy.uv[lower], "jaw"),
    ]


def mouth_light(rest: Floats) -> Floats:
    """Return the share of the sky (P,) that vertices (P, 3) of teeth and tongue see in an open mouth.

    Args:
        rest: (P, 3) vertices, metres; z points out of the mouth.
    """
    depth = ((rest[:, 2].max() - rest[:, 2]) / MOUTH_DEPTH).clip(0, 1)
    return (MOUTH_LIGHT[0] + depth * (MOUTH_LIGHT[1] - MOUTH_LIGHT[0])).astype(np.float32)


def _skin(
    head: HeadModel,
    base: OpenBase,
    hidden: NDArray[np.bool_],
    doubled: list[str],
    kit: AssetKit | None,
    materials: Mapping[str, Material],
) -> tuple[NDArray[np.int64], Surface]:
    """Return the base vertices (V,) of the skin and its surface; vertices of the open head come first."""
    skin_vertex = np.concatenate([base.head_vertex, base.bust_vertex])
    place = np.full(len(base.template), -1)
    place[skin_vertex] = np.arange(len(skin_vertex))
    own = head.triangles.numpy()
    triangles = np.concatenate([own, place[base.bust_triangles]])
    part = np.full(len(triangles), Part.BODY, np.uint8)
    part[: len(own)] = _lips(head)
    drawn = ~hidden[skin_vertex][triangles].any(1)
    drawn[: len(own)] = True
    for region in doubled:
        drawn[: len(own)] &= ~(head.region(region).numpy() > 0.5)[own].all(1)
    uv = _skin_coordinates(head, base, kit)
    material = materials.get("skin", Material(flat(SKIN_COLOUR), specular=0.028, subsurface=1.0))
    return skin_vertex, Surface(
        "skin", triangles[drawn].astype(np.int32), uv[drawn].astype(np.float32), part[drawn], material
    )


def _skin_coordinates(head: HeadModel, base: OpenBase, kit: AssetKit | None) -> Floats:
    """Return the texture coordinates (T, 3, 2) of the skin: in a kit's map, or in the atlas of the head's triangles."""
    if kit is None:
        atlas = atlas_coordinates(len(head.triangles))
        return np.concatenate([atlas[:-1], np.repeat(atlas[-1:], len(base.bust_triangles), axis=0)])
    uv = np.concatenate([head.uvs.numpy()[head.uv_triangles.numpy()], base.bust_uv])
    return skin_coordinates(uv * np.array([1, -1]) + np.array([0, 1]), kit)


def _lips(head: HeadModel) -> NDArray[np.uint8]:
    """Return the class (T,) of each triangle of the open head."""
    from ffavatar_model.head.interface import JAW

    triangles = head.triangles.numpy()
    lips = head.region("lips").numpy()[triangles].mean(1) > LIP
    lower = head.skinning_weights.numpy()[triangles, JAW].mean(1) > 0.5
    parts = np.where(lips, np.where(lower, Part.LOWER_LIP, Part.UPPER_LIP), Part.BODY).astype(np.uint8)
    parts[head.region("tongue").numpy()[triangles].mean(1) > 0.5] = Part.TONGUE
    return parts


def skin_coordinates(uv: Floats, kit: AssetKit) -> Floats:
    """Convert MakeHuman's texture coordinates (T, 3, 2) to those of a kit's skins, v down.

    A triangle whose corners lie in no tile gets the nearest point of the nearest tile.

    Args:
        uv: Coordinates in the base mesh's map, v down.
        kit: The kit, whose ``skins.json`` names the tiles.
    """
    table = kit.table("skins/skins.json")
    pixels = uv * np.array(table["source_size"])
    rectangles = np.array([tile["source_rect"] for tile in table["tiles"]], float)
    origins = np.array([tile["atlas_origin"] for tile in table["tiles"]], float)
    centre = pixels.mean(1)[:, None]
    nearest = np.clip(centre, rectangles[:, :2] + 1, rectangles[:, 2:] - 1)
    tile = np.linalg.norm(nearest - centre, axis=2).argmin(1)
    low, high = rectangles[tile, None, :2], rectangles[tile, None, 2:]
    return ((np.clip(pixels, low + 0.5, high - 0.5) - low + origins[tile, None]) / table["image_size"]).astype(
        np.float32
    )
