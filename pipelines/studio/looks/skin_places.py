"""Places on a kit's skins: the position of every texel on the base mesh, by which details are painted."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from pipelines.studio.assets.kit import AssetKit, open_kit
from pipelines.studio.people.open_surfaces import skin_coordinates
from pipelines.studio.people.proxies import triangulate

Floats = NDArray[np.float32]
FINE = 2
"""Factor by which the map of places is smaller than a skin."""
TO_METRES = 0.1
"""Metres in the base mesh's unit."""
EYES = ("helper-l-eye", "helper-r-eye")
"""Groups of the base mesh whose middle is the origin."""
NOWHERE = 9.0
"""Coordinate of texels that belong to no triangle of the head, metres."""


def skin_places(kit: AssetKit) -> Floats | None:
    """Return the places (h, w, 3) of a kit's skins, metres in the head's frame; None if the kit has no base mesh.

    The template's face is meant: a person's own differs by millimetres, and texture coordinates are the same.

    Args:
        kit: The kit.
    """
    return _places(kit.root) if kit.has("base/base.npz") else None


@lru_cache(maxsize=2)
def _places(root: Path) -> Floats:
    kit = open_kit(root)
    base, table = kit.arrays("base/base.npz"), kit.table("skins/skins.json")
    triangles, corners = triangulate(base["quads"][base["head"]], base["quads_uv"][base["head"]])
    names = list(base["group_names"])
    eyes = np.isin(base["group"], [names.index(each) for each in EYES])
    points = (base["vertices"] - base["vertices"][np.unique(base["quads"][eyes].clip(0))].mean(0)) * TO_METRES
    uv = skin_coordinates(base["uv"][corners] * np.array([1, -1]) + np.array([0, 1]), kit)
    width, height = (side // FINE for side in table["image_size"])
    pixels = uv * np.array([width, height]) - 0.5
    index = np.full((height, width), -1, np.int32)
    for number, corner in enumerate(np.rint(pixels * 16).astype(np.int32)):
        cv2.fillConvexPoly(index, corner, number, shift=4)
    y, x = np.nonzero(index >= 0)
    found = index[y, x]
    weights = _barycentric(np.stack([x, y], 1), pixels[found])
    places = np.full((height, width, 3), NOWHERE, np.float32)
    places[y, x] = np.einsum("nk,nkc->nc", weights, points[triangles[found]])
    return places


def _barycentric(points: NDArray[np.int64], corners: Floats) -> Floats:
    """Return the barycentric coordinates (N, 3) of points (N, 2) in triangles (N, 3, 2), within the triangles."""
    a, b, p = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0], points - corners[:, 0]
    area = a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]
    area = np.where(np.abs(area) < 1e-9, 1e-9, area)
    u, v = (p[:, 0] * b[:, 1] - p[:, 1] * b[:, 0]) / area, (a[:, 0] * p[:, 1] - a[:, 1] * p[:, 0]) / area
    weights = np.stack([1 - u - v, u, v], 1).clip(0, 1)
    return (weights / weights.sum(1, keepdims=True)).astype(np.float32)
