"""The interface of studio people: surfaces with materials, poses, and sources that make people from ids.

Lengths are metres. Axes are the open head's: +X to the head's own left, +Y up, +Z out of the face, origin midway
between the eyes. Textures are sRGB with row 0 at v = 0 (v down).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from pipelines.studio.part_classes import Part

Floats = NDArray[np.float32]
AlphaMode = Literal["opaque", "cutout", "blend"]
Sex = Literal["female", "male"]
AgeBand = Literal["young", "middle", "old"]
N_MESH, N_LANDMARKS = 468, 478
"""Number of points of the face mesh, and with the ten points of the two irises."""


@dataclass(frozen=True, slots=True, eq=False)
class Material:
    """Properties of a surface that decide how it reflects light."""

    base_colour: NDArray[np.uint8]
    """(H, W, 4) sRGB and alpha; row 0 is v = 0."""
    normal_map: NDArray[np.uint8] | None = None
    """(H, W, 3) normals in tangent space; None for a smooth surface."""
    wrinkle_map: NDArray[np.uint8] | None = None
    """(H, W, 3) slopes along x and y in tangent space that expressions add, and numbers of regions in blue.

    See ``pipelines.studio.rendering.wrinkles``; slopes are 0 (128) where regions meet. None for a surface without.
    """
    roughness: float | NDArray[np.uint8] = 0.5
    """Roughness from 0 to 1, or an image (H, W) from 0 to 255."""
    specular: float = 0.04
    """Reflectance at normal incidence; skin has 0.028."""
    subsurface: float = 0.0
    """Strength of light that enters and leaves elsewhere, 0 to 1; skin has 1."""
    clearcoat: float = 0.0
    """Strength of a wet layer, 0 to 1: cornea, lips, glasses."""
    alpha_mode: AlphaMode = "opaque"
    """Meaning of alpha; cards of hair have ``blend``."""


@dataclass(frozen=True, slots=True, eq=False)
class Surface:
    """One mesh of a person; its vertices come from ``Figure.pose``."""

    name: str
    """Name, for example skin, eyes, hair, brows, lashes, teeth_upper, teeth_lower, tongue, top, glasses."""
    triangles: NDArray[np.int32]
    """(T, 3) indices of vertices, counter-clockwise seen from outside."""
    uv: Floats
    """(T, 3, 2) texture coordinates of each corner, v down."""
    part: Part | NDArray[np.uint8]
    """Segmentation class of the surface, or of each triangle (T,)."""
    material: Material
    """Reflection of light."""
    occlusion: Floats | None = None
    """(V,) share of the sky that each vertex sees at rest, 0 to 1; None means 1."""


@dataclass(frozen=True, slots=True)
class Attributes:
    """Facts about a person that its source declares, for the data card."""

    source: str
    """Name of the source of people."""
    sex: Sex | None
    """None if the source does not know it."""
    age: AgeBand | None
    """None if the source does not know it."""
    skin_tone: int | None
    """Tone from 0 (lightest) to 9 (darkest); None if the source does not know it."""
    unusual_shape: bool = False
    """True for the few whose shape lies in the tail."""
    styles: Mapping[str, str] = field(default_factory=dict)
    """Kind of thing → its name, for example hair → bob01."""


@dataclass(frozen=True, slots=True, eq=False)
class Pose:
    """Expression, gaze and head pose of a person at one timestep."""

    actions: Mapping[str, float] = field(default_factory=dict)
    """Named action → strength from 0 to 1; the eyes' direction is in ``gaze`` alone."""
    gaze: tuple[tuple[float, float], tuple[float, float]] = ((0.0, 0.0), (0.0, 0.0))
    """Angles of the left and the right eye from straight ahead, radians: to the head's left, and up."""
    head_to_world: NDArray[np.float64] = field(default_factory=lambda: np.eye(4))
    """(4, 4) pose of the head, metres."""
    neck: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Axis-angle of the head against the shoulders, radians: the shoulders turn under the head."""


@dataclass(frozen=True, slots=True, eq=False)
class PosedFigure:
    """Geometry of a person at one timestep, with its truth."""

    vertices: tuple[Floats, ...]
    """(V, 3) vertices of each surface, world, metres."""
    landmarks: Floats
    """(478, 3) points of the face mesh and of both irises, world, metres; NaN where the topology has no such point."""
    gaze: Floats
    """(2, 3) unit directions in which the left and the right eye look, world."""
    head_vertices: Floats | None = None
    """(V, 3) vertices of the open head in the head's frame, metres; None for other topologies."""
    expression: Floats | None = None
    """(E,) expression coefficients of the open head; None for other topologies."""
    rotations: Floats | None = None
    """(5, 3) axis-angles of the open head's joints, radians; None for other topologies."""
    shape: Floats | None = None
    """(S,) shape coefficients of the open head; None for other topologies."""
    normal_strength: Mapping[str, float] = field(default_factory=dict)
    """Action → strength of its wrinkles."""


class Figure(Protocol):
    """A person that can be posed."""

    @property
    def identity_id(self) -> str:
        """Id of the person."""
        ...

    @property
    def attributes(self) -> Attributes:
        """Declared facts."""
        ...

    @property
    def surfaces(self) -> tuple[Surface, ...]:
        """Surfaces, in the order of ``PosedFigure.vertices``."""
        ...

    def pose(self, pose: Pose) -> PosedFigure:
        """Pose the person.

        Args:
            pose: Actions, gaze, head and neck.

        Raises:
            ValueError: An action has no such name.
        """
        ...


class PeopleSource(Protocol):
    """A source of people."""

    @property
    def name(self) -> str:
        """Name of the source."""
        ...

    @property
    def training_allowed(self) -> bool:
        """False for people who are kept for evaluation."""
        ...

    @property
    def credits(self) -> tuple[str, ...]:
        """Lines to print wherever renders are published."""
        ...

    def person(self, identity_id: str) -> Figure:
        """Make a person; the same id gives the same person.

        Args:
            identity_id: Id of the person, its seed.
        """
        ...


def require_training(source: PeopleSource) -> None:
    """Refuse people who are kept for evaluation; everything whose images may be trained on calls this.

    Args:
        source: Source of the people.

    Raises:
        ValueError: No training may see the source's people.
    """
    if not source.training_allowed:
        raise ValueError(f"people of source {source.name!r} are kept for evaluation: name open or ict with --people")
