"""Wear of people of the open head without a kit: a painted skin, and pieces that are bound to the base mesh."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from pipelines.studio.part_classes import Part
from pipelines.studio.people.figure import Material
from pipelines.studio.people.identities import Facts
from pipelines.studio.people.open_base import OpenBase
from pipelines.studio.people.proxies import Binding, Proxy

Floats = NDArray[np.float32]
Follows = Literal["skin", "skull", "hair", "shoulders", "eyes", "jaw"]
"""Part of a person that moves a proxy."""


@dataclass(frozen=True, eq=False)
class Piece:
    """A surface that is worn without a kit: hair or teeth."""

    name: str
    """Name of the surface."""
    proxy: Proxy
    """Mesh and binding."""
    follows: Follows
    """Part of the person that moves it."""
    part: Part
    """Segmentation class."""
    material: Material
    """Reflection of light."""


@dataclass(frozen=True, eq=False)
class PlainWear:
    """The looks of one person without a kit."""

    styles: Mapping[str, str]
    """Kind of thing → its name, for example hair → short."""
    skin: Material
    """Skin; its texture is an atlas of triangles (``triangle_atlas``)."""
    pieces: tuple[Piece, ...]
    """All other surfaces."""


class PlainLooks(Protocol):
    """Looks of people without a kit."""

    def wear(self, identity_id: str, facts: Facts) -> PlainWear:
        """Return the looks of a person.

        Args:
            identity_id: Id of the person.
            facts: Its facts.
        """
        ...


def bind_nearest(points: Floats, base: OpenBase, candidates: NDArray[np.int64]) -> Binding:
    """Bind points to the three nearest vertices of a selection, on the mean person.

    Args:
        points: (P, 3) points about the template of the base mesh, metres.
        base: The base mesh.
        candidates: (C,) base vertices of the selection, at least three.
    """
    distance, nearest = cKDTree(base.template[candidates]).query(points, k=3)
    weight = 1 / (distance + 1e-5)
    weight = (weight / weight.sum(1, keepdims=True)).astype(np.float32)
    return bind_to(points, base, candidates[nearest], weight)


def bind_to(points: Floats, base: OpenBase, index: NDArray[np.int64], weight: Floats) -> Binding:
    """Bind points to three vertices each; offsets grow with the head.

    Args:
        points: (P, 3) points about the template of the base mesh, metres.
        base: The base mesh.
        index: (P, 3) base vertices.
        weight: (P, 3) weights, which sum to 1.
    """
    head = base.template[base.head_vertex]
    ends = np.stack([base.head_vertex[head.argmin(0)], base.head_vertex[head.argmax(0)]], 1)
    offset = points - np.einsum("pk,pkc->pc", weight, base.template[index])
    return Binding(index, weight, offset.astype(np.float32), ends, np.ptp(head, axis=0))
