"""Fitting of proxies (hair, brows, lashes, eyes, teeth, clothes) to a deformed base mesh, by MakeHuman's bindings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

Floats = NDArray[np.float32]


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
    """Return a mask (P,) of the vertices of the lower teeth: whole pieces that lie below the middle."""
    edges = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]]])
    graph = csr_array((np.ones(len(edges)), (edges[:, 0], edges[:, 1])), shape=(len(vertices),) * 2)
    n, piece = connected_components(graph, directed=False)
    heights = np.bincount(piece, vertices[:, 1], n) / np.bincount(piece, minlength=n)
    middle = (vertices[:, 1].min() + vertices[:, 1].max()) / 2
    return heights[piece] < middle


def rigid_motion(rest: Floats, posed: Floats) -> tuple[Floats, Floats]:
    """Return rotation (3, 3) and shift (3,) that bring points (P, 3) at rest nearest to posed points (P, 3)."""
    a, b = rest.mean(0), posed.mean(0)
    left, _, right = np.linalg.svd((rest - a).T @ (posed - b))
    sign = np.diag([1.0, 1.0, np.sign(np.linalg.det(left @ right))])
    rotation = (left @ sign @ right).T
    return rotation.astype(np.float32), (b - rotation @ a).astype(np.float32)
