"""The people of VALID in a kit: 38 textured avatars, kept for evaluation. No training may see them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from mfhq.ids import seed_of
from pipelines.studio.assets.kit import AssetKit
from pipelines.studio.part_classes import Part
from pipelines.studio.people.figure import Attributes, Material, Sex, Surface
from pipelines.studio.people.open_surfaces import mouth_light
from pipelines.studio.valid.valid_actions import needed_expressions
from pipelines.studio.valid.valid_figure import SurfacePoints, ValidBody, ValidFigure
from pipelines.studio.valid.valid_points import valid_points

Arrays = Mapping[str, NDArray[Any]]
TOPOLOGY, INDEX = "valid/topology.npz", "valid/index.json"
"""Files of a kit that all people share."""
NEEDED = {
    TOPOLOGY: ("faces", "faces_uv", "uv", "part", "vertex_part", "joint_names", "expression_names", "expr_step"),
    "person": ("vertices", "weights", "joint_position", "expr_ptr", "expr_index", "expr_delta"),
}
"""Arrays that a file must have."""
PARTS = ("body", "teeth_upper", "teeth_lower_tongue", "eye_left", "eye_right", "tear_gland_left", "tear_gland_right")
"""Names of the parts, in their order in the kit."""
SHOULDERS = {"Spine1": 1.0, "Spine2": 1.0, "LeftShoulder": 1.0, "RightShoulder": 1.0, "LeftArm": 1.0, "RightArm": 1.0}
NECK_SHARE = 0.5
"""Share of the shoulders' turn at vertices of the neck."""
SEXES: dict[str, Sex] = {"F": "female", "M": "male"}
MOUTH = ("teeth_upper", "teeth_lower", "tongue")
"""Surfaces that are lit as in an open mouth."""
TONGUE_MOVES = 1e-4
"""Least offset by an expression of the tongue for a vertex of the tongue, metres."""
ARM_DOWN = 1.0
"""Angle by which the arms, which are stretched out in the files, are let down, radians."""
OUTER_LIPS = (61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 409, 270, 269, 267, 0, 37, 39, 40, 185)
"""Points of the face mesh around the lips, in order."""
LIP_DEPTH, LOWER_FALLS = 0.012, 0.5
"""Depth of the lips behind their corners, metres; least share of the mouth's largest fall for a lower lip."""


@dataclass(frozen=True, eq=False)
class ValidSource:
    """People of VALID."""

    kit: AssetKit
    """Kit with the folder ``valid``."""

    name = "valid"
    training_allowed = False
    credits = ("VALID, Copyright (c) 2022 Tiffany Do, MIT",)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names of the people, in the order of the kit."""
        return tuple(self._rows)

    @cached_property
    def topology(self) -> Arrays:
        """Arrays that all people share."""
        arrays = self.kit.arrays(TOPOLOGY)
        _check(arrays, NEEDED[TOPOLOGY], TOPOLOGY)
        names = {str(name) for name in arrays["expression_names"]}
        if missing := sorted(needed_expressions() - names):
            raise ValueError(f"asset {self.kit.root / TOPOLOGY} lacks the expressions {missing}: copy the kit again")
        if (
            valid_points()[0].max() >= len(arrays["faces"])
            or tuple(map(str, arrays["part_names"])) != PARTS
            or arrays["faces"].max() >= len(arrays["vertex_part"])
        ):
            raise ValueError(f"asset {self.kit.root / TOPOLOGY} is of another version: copy the kit again")
        return arrays

    @cached_property
    def _rows(self) -> dict[str, dict[str, Any]]:
        table = self.kit.table(INDEX)
        rows = {str(row["name"]): row for row in table.get("avatars", ())} if isinstance(table, dict) else {}
        if not rows:
            raise ValueError(f"asset {self.kit.root / INDEX} names no avatars: copy the kit again")
        return rows

    def avatar_of(self, identity_id: str) -> str:
        """Return the name of the avatar for an id: itself, or one that follows from its number or its letters."""
        if identity_id in self.names:
            return identity_id
        number = re.search(r"(\d+)$", identity_id)
        return self.names[(int(number[1]) if number else seed_of(identity_id)) % len(self.names)]

    def person(self, identity_id: str) -> ValidFigure:
        """Make a person; see ``PeopleSource.person``.

        Args:
            identity_id: Name of an avatar. Another id stands for one of them: its last number counts through all.

        Raises:
            ValueError: A file is missing, damaged or of another version.
        """
        name = self.avatar_of(identity_id)
        row, place = self._rows[name], f"valid/{name}.npz"
        arrays = self.kit.arrays(place)
        _check(arrays, NEEDED["person"], place)
        n, rows = len(self.topology["vertex_part"]), len(arrays["expr_index"])
        ends = np.array([0, *arrays["expr_ptr"], rows])
        fits = len(arrays["vertices"]) == len(arrays["weights"]) == n and len(arrays["expr_delta"]) == rows
        if not fits or arrays["expr_index"].max(initial=0) >= n or (np.diff(ends) < 0).any():
            raise ValueError(f"asset {self.kit.root / place} does not fit {TOPOLOGY}: copy the kit again")
        body = make_body(self.topology, arrays)
        surfaces, vertex = self._surfaces(row, arrays, body)
        styles = {"hair": "wig"} if row.get("wig") else {}
        attributes = Attributes(self.name, SEXES.get(row.get("sex", "")), None, None, styles=styles)
        return ValidFigure(identity_id, attributes, surfaces, vertex, body)

    def _surfaces(
        self, row: Mapping[str, Any], arrays: Arrays, body: ValidBody
    ) -> tuple[tuple[Surface, ...], tuple[NDArray[np.int64], ...]]:
        colour = self.kit.image(f"valid/{row['color']}")
        normals = np.ascontiguousarray(self.kit.image(f"valid/{row['normal']}")[..., :3]) if "normal" in row else None
        wet = Material(colour, roughness=0.25, clearcoat=1.0)
        skin = Material(colour, normals, roughness=0.5, specular=0.028, subsurface=1.0)
        part, tongue = self.topology["part"], _tongue(body)
        faces = self.topology["faces"].astype(np.int64)
        licked, skin_rows = tongue[faces].all(1), np.isin(part, (0, 5, 6))
        chosen: dict[str, tuple[NDArray[np.bool_], Part | NDArray[np.uint8], Material]] = {
            "skin": (skin_rows, _lips(body, faces)[skin_rows], skin),
            "eyes": (np.isin(part, (3, 4)), Part.BODY, wet),
            "teeth_upper": (part == 1, Part.UPPER_TEETH, wet),
            "teeth_lower": ((part == 2) & ~licked, Part.LOWER_TEETH, wet),
            "tongue": ((part == 2) & licked, Part.TONGUE, wet),
        }
        uv = self.topology["uv"][self.topology["faces_uv"]].astype(np.float32)
        surfaces, vertex = [], []
        for name, (rows, kind, material) in chosen.items():
            used, triangles = np.unique(faces[rows], return_inverse=True)
            light = mouth_light(body.rest[used]) if name in MOUTH and len(used) else None
            mesh = triangles.reshape(-1, 3).astype(np.int32)
            surfaces.append(Surface(name, mesh, uv[rows], kind, material, light))
            vertex.append(used)
        if body.wig is not None:
            surfaces.append(self._wig(row, arrays))
        return tuple(surfaces), tuple(vertex)

    def _wig(self, row: Mapping[str, Any], arrays: Arrays) -> Surface:
        triangles = arrays["wig_faces"].astype(np.int32)
        uv = np.mod(arrays["wig_uv"], 1).astype(np.float32)[triangles]
        return Surface("hair", triangles, uv, Part.HAIR, Material(self.kit.image(f"valid/{row['wig_color']}")))


def make_body(topology: Arrays, arrays: Arrays) -> ValidBody:
    """Return a person's geometry in the head's frame: origin between the eyes.

    Args:
        topology: Arrays that all people share.
        arrays: The person's own.
    """
    joints = [str(name) for name in topology["joint_names"]]
    eyes = arrays["joint_position"][[joints.index("LeftEye"), joints.index("RightEye")]].astype(np.float64)
    origin = eyes.mean(0)
    rest = (_lowered_arms(joints, arrays) - origin).astype(np.float32)
    weights = np.array([NECK_SHARE if name == "Neck" else SHOULDERS.get(name, 0.0) for name in joints])
    face, barycentric = valid_points()
    points = SurfacePoints(topology["faces"][face].astype(np.int64), barycentric)
    eye = np.select([topology["vertex_part"] == 3, topology["vertex_part"] == 4], [1, 2], 0).astype(np.uint8)
    wig = (arrays["wig_vertices"] - origin).astype(np.float32) if "wig_vertices" in arrays else None
    share = (arrays["weights"].astype(np.float64) @ weights).clip(0, 1).astype(np.float32)
    return ValidBody(rest, _expressions(topology, arrays), eye, eyes - origin, share, points, wig)


def _lowered_arms(joints: list[str], arrays: Arrays) -> NDArray[np.float64]:
    """Return the vertices (N, 3) with arms that hang a little, in the file's frame."""
    vertices = arrays["vertices"].astype(np.float64)
    for name, angle in (("LeftArm", -ARM_DOWN), ("RightArm", ARM_DOWN)):
        joint = joints.index(name)
        pivot, weight = arrays["joint_position"][joint], arrays["weights"][:, joint, None].astype(np.float64)
        turned = Rotation.from_rotvec([0, 0, angle]).apply(vertices - pivot) + pivot
        vertices = vertices + weight * (turned - vertices)
    return vertices


def _lips(body: ValidBody, faces: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Return the class (F,) of each face of the skin: lips are inside of the points around them."""
    around = body.points.on(body.rest)[list(OUTER_LIPS)]
    middles = body.rest[faces].mean(1)
    x, y = middles[:, :1], middles[:, 1:2]
    ends = np.roll(around, -1, axis=0)
    above = (around[:, 1] > y) != (ends[:, 1] > y)
    with np.errstate(divide="ignore", invalid="ignore"):
        crossing = around[:, 0] + (y - around[:, 1]) / (ends[:, 1] - around[:, 1]) * (ends[:, 0] - around[:, 0])
    inside = ((above & (x < crossing)).sum(1) % 2 == 1) & (middles[:, 2] > around[:, 2].min() - LIP_DEPTH)
    index, offsets = body.expressions["MouthOpen"]
    fall = np.zeros(len(body.rest), np.float32)
    fall[index] = -offsets[:, 1]
    lower = fall[faces].mean(1) > LOWER_FALLS * fall.max()
    return np.where(inside, np.where(lower, Part.LOWER_LIP, Part.UPPER_LIP), Part.BODY).astype(np.uint8)


def _expressions(topology: Arrays, arrays: Arrays) -> dict[str, tuple[NDArray[np.int64], NDArray[np.float32]]]:
    step, found = float(np.asarray(topology["expr_step"]).item()), {}
    for k, name in enumerate(map(str, topology["expression_names"])):
        rows = slice(int(arrays["expr_ptr"][k]), int(arrays["expr_ptr"][k + 1]))
        offsets = (arrays["expr_delta"][rows] * step).astype(np.float32)
        found[name] = (arrays["expr_index"][rows].astype(np.int64), offsets)
    return found


def _tongue(body: ValidBody) -> NDArray[np.bool_]:
    """Return a mask (N,) of the vertices that expressions of the tongue move."""
    mask = np.zeros(len(body.rest), bool)
    for name, (index, offsets) in body.expressions.items():
        if name.startswith("tongue_"):
            mask[index[np.linalg.norm(offsets, axis=1) > TONGUE_MOVES]] = True
    return mask


def _check(arrays: Arrays, names: tuple[str, ...], place: str) -> None:
    """Raise ValueError if an array is missing."""
    if missing := sorted(set(names) - set(arrays)):
        raise ValueError(f"asset {place} lacks the arrays {missing}: it is of another version; copy the kit again")
