"""A person of VALID in poses: expressions as sparse offsets, eyes that turn, and shoulders by the weights of joints."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipelines.studio.motion import gaze_actions
from pipelines.studio.people.eyes import gaze_rotation, iris_points, split_gaze
from pipelines.studio.people.figure import Attributes, Pose, PosedFigure, Surface
from pipelines.studio.people.shoulders import move_points, turn_shoulders
from pipelines.studio.valid.valid_actions import mix_expressions

Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class SurfacePoints:
    """The 468 points of the face mesh on triangles."""

    corners: NDArray[np.int64]
    """(468, 3) vertices of their triangles."""
    weights: Floats
    """(468, 3) barycentric coordinates."""

    def on(self, vertices: Floats) -> Floats:
        """Return the points (468, 3) on vertices (N, 3)."""
        return np.einsum("lk,lkc->lc", self.weights, vertices[self.corners])


@dataclass(frozen=True, eq=False)
class ValidBody:
    """The geometry of a person (N vertices) in the head's frame, metres."""

    rest: Floats
    """(N, 3) vertices at rest."""
    expressions: dict[str, tuple[NDArray[np.int64], Floats]]
    """Expression → the vertices (K,) that it moves, and how far (K, 3)."""
    eye: NDArray[np.uint8]
    """(N,) 1 for vertices of the left eyeball, 2 for those of the right one, 0 for others."""
    centres: NDArray[np.float64]
    """(2, 3) centres of the left and the right eyeball."""
    share: Floats
    """(N,) share of the shoulders' turn."""
    points: SurfacePoints
    """Points of the face mesh."""
    wig: Floats | None
    """(W, 3) vertices of the wig at rest; it moves with the head."""


@dataclass(frozen=True, eq=False)
class ValidFigure:
    """A person of VALID; see ``pipelines.studio.people.figure.Figure``."""

    identity_id: str
    """Id of the person."""
    attributes: Attributes
    """Declared facts."""
    surfaces: tuple[Surface, ...]
    """Skin with clothes, eyes, teeth, tongue, then the wig if there is one."""
    vertex: tuple[NDArray[np.int64], ...]
    """Vertices (V,) of the body for each surface but the wig."""
    body: ValidBody
    """The geometry."""

    def pose(self, pose: Pose) -> PosedFigure:
        """Pose the person; see ``Figure.pose``."""
        body = self.body
        turns = np.stack([gaze_rotation(*angles) for angles in pose.gaze])
        vertices = self._expressed(pose)
        for eye in (0, 1):
            ball = body.eye == eye + 1
            vertices[ball] = (body.rest[ball] - body.centres[eye]) @ turns[eye].T + body.centres[eye]
        radii = np.array([(body.rest[body.eye == eye + 1] - body.centres[eye])[:, 2].max() for eye in (0, 1)])
        points = np.concatenate([body.points.on(vertices), iris_points(body.centres, radii, turns)])
        turned = turn_shoulders(vertices, body.share, pose.neck)
        to_world = np.asarray(pose.head_to_world, np.float64)
        parts = [turned[index] for index in self.vertex] + ([] if body.wig is None else [body.wig])
        return PosedFigure(
            vertices=tuple(move_points(part, to_world) for part in parts),
            landmarks=move_points(points, to_world),
            gaze=(turns[:, :, 2] @ to_world[:3, :3].T).astype(np.float32),
            normal_strength=dict(pose.actions),
        )

    def _expressed(self, pose: Pose) -> Floats:
        """Return the vertices (N, 3) with the expression of a pose."""
        vertices = self.body.rest.copy()
        for name, weight in mix_expressions(split_gaze(pose.actions) | gaze_actions(pose.gaze)).items():
            index, offsets = self.body.expressions[name]
            vertices[index] += np.float32(weight) * offsets
        return vertices
