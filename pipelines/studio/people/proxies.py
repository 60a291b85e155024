"""Fitting of proxies (hair, brows, lashes, eyes, teeth, clothes) to a deformed base mesh, by MakeHuman's bindings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

Floats = NDArray[np.float32]
TOOTH_SPAN = 0.5
"""Largest height of a tooth, as a share of the height of all teeth and gums."""


@dataclass(frozen=True, eq=False)
class Binding:
    """Binding of P vertices to three vertices each of the base mesh."""

    index: NDArray[np.int64]
    """(P, 3) base vertices."""
    weight: Floats
    """(P, 3) weights, which sum to 1."""
    offset: Floats
    """(P, 3) offsets in units of the scales."""
    scale_vertex: NDArray[np.int64]
    """(3, 2) base vertices whose distance along x, y, z scales the offsets."""
    scale_denominator: Floats
    """(3,) that distance for which the scale is 1, decimetres."""

    def fit(self, base: Floats, scales: Floats | None = None) -> Floats:
        """Return the vertices (P, 3), metres, on a base mesh (N, 3) in metres.

        Args:
            base: The deformed base mesh.
            scales: (3,) scales, metres; None measures them on ``base``.
        """
        scale = self.scales(base) if scales is None else scales
        return (np.einsum("pk,pkc->pc", self.weight, base[self.index]) + scale * self.offset).astype(np.float32)

    def scales(self, base: Floats) -> Floats:
        """Return the scales (3,) of the offsets, metres."""
        ends = base[self.scale_vertex]
        axis = np.arange(3)
        return np.abs(ends[axis, 0, axis] - ends[axis, 1, axis]) / self.scale_denominator


@dataclass(frozen=True, eq=False)
class Proxy:
    """A mesh that is bound to the base mesh."""

    triangles: NDArray[np.int32]
    """(T, 3) indices of the proxy's vertices."""
    uv: Floats
    """(T, 3, 2) texture coordinates of the corners, v down."""
    binding: Binding
    """Binding to the base mesh."""
    hides: NDArray[np.int64]
    """(H,) base vertices that the proxy hides."""


def read_proxy(arrays: Mapping[str, NDArray[Any]], place: str) -> Proxy:
    """Make a proxy from its stored arrays; the second binding, which needs no helper vertices, goes first.

    Args:
        arrays: Arrays of a file of the kit.
        place: Name of the file, for errors.

    Raises:
        ValueError: An array is missing or has another number of rows.
    """
    kind = "body" if "body_index" in arrays else "bind"
    scale = "body_scale" if kind == "body" else "scale"
    names = (f"{kind}_index", f"{kind}_weight", f"{kind}_offset", f"{scale}_vertex", f"{scale}_denominator")
    needed = {*names, "quads", "quads_uv", "uv"}
    if missing := sorted(needed - set(arrays)):
        raise ValueError(f"proxy {place} lacks the arrays {missing}: it is of another version; copy the kit again")
    index, weight, offset, ends, denominator = (arrays[name] for name in names)
    if not len(index) == len(weight) == len(offset) > arrays["quads"].max():
        raise ValueError(f"proxy {place}: bindings and faces have different numbers of vertices; copy the kit again")
    triangles, corners = triangulate(arrays["quads"], arrays["quads_uv"])
    uv = arrays["uv"][corners] * np.array([1, -1]) + np.array([0, 1])
    binding = Binding(index.astype(np.int64), weight, offset, ends.astype(np.int64), denominator)
    hides = arrays.get("delete_vertex", np.zeros(0)).astype(np.int64)
    return Proxy(triangles.astype(np.int32), uv.astype(np.float32), binding, hides)


def triangulate(quads: NDArray[np.integer], *others: NDArray[np.integer]) -> list[NDArray[np.integer]]:
    """Split faces (N, 4), whose last index is -1 for a triangle, into triangles (T, 3); others go the same way."""
    four = quads[:, 3] >= 0
    return [np.concatenate([each[:, [0, 1, 2]], each[four][:, [0, 2, 3]]]) for each in (quads, *others)]


def split_jaws(vertices: Floats, triangles: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Return a mask (P,) of the vertices of the lower jaw.

    Single teeth lie above or below the plane between all teeth. Gums may be one piece: a vertex belongs to the nearest
    tooth.

    Args:
        vertices: (P, 3) vertices at rest; y is up.
        triangles: (T, 3) triangles.
    """
    edges = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]]])
    graph = csr_array((np.ones(len(edges)), (edges[:, 0], edges[:, 1])), shape=(len(vertices),) * 2)
    n, piece = connected_components(graph, directed=False)
    spans = [np.ptp(vertices[piece == k, 1]) for k in range(n)]
    tooth = np.array(spans)[piece] < TOOTH_SPAN * np.ptp(vertices[:, 1])
    sums = np.stack([np.bincount(piece, vertices[:, axis], n) for axis in (1, 2)], 1)
    centres = sums / np.bincount(piece, minlength=n)[:, None]
    plane = np.stack([np.ones(n), centres[:, 1]], 1)
    teeth = np.unique(piece[tooth]) if tooth.any() else np.arange(n)
    above = centres[:, 0] - plane @ np.linalg.lstsq(plane[teeth], centres[teeth, 0], rcond=None)[0]
    lower = (above < 0)[piece]
    if tooth.any() and not tooth.all():
        lower[~tooth] = lower[tooth][cKDTree(vertices[tooth]).query(vertices[~tooth])[1]]
    return lower


def rigid_motion(rest: Floats, posed: Floats) -> tuple[Floats, Floats]:
    """Return rotation (3, 3) and shift (3,) that bring points (P, 3) at rest nearest to posed points (P, 3)."""
    a, b = rest.mean(0), posed.mean(0)
    left, _, right = np.linalg.svd((rest - a).T @ (posed - b))
    sign = np.diag([1.0, 1.0, np.sign(np.linalg.det(left @ right))])
    rotation = (left @ sign @ right).T
    return rotation.astype(np.float32), (b - rotation @ a).astype(np.float32)
