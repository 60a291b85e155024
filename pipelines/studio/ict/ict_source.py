"""People with the faces of ICT-FaceKit, whose shapes and expressions come from scans, on the open head's topology."""

from __future__ import annotations

import io
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from mfhq.ids import seed_of
from pipelines.faces.weight_cache import write_atomically
from pipelines.studio.assets.kit import AssetKit
from pipelines.studio.ict.ict_model import ict_digest, load_ict_model
from pipelines.studio.ict.ict_wrap import carried, wrap_head
from pipelines.studio.motion import gaze_actions
from pipelines.studio.people.eyes import gaze_rotation, split_gaze
from pipelines.studio.people.figure import Pose
from pipelines.studio.people.identities import AGE, GENDER, Facts, draw_facts
from pipelines.studio.people.open_source import OpenFigure, OpenSource

if TYPE_CHECKING:
    from ffavatar_model.head import HeadModel

Floats = NDArray[np.float32]
VERSION = 2
"""Version of the registered shapes' file, part of its name; it is increased when the file's content changes."""
SPREAD, UNUSUAL_SPREAD, LIMIT = 0.8, 1.15, 2.5
"""Standard deviations of the modes' coefficients, for usual people and for the few in the tail; largest coefficient."""
CANDIDATES = 6
"""Number of faces that are drawn for a person; the one that fits the person's sex and age best is taken."""
RIM, REACH, NEIGHBOURS = 0.04, 0.04, 8
"""Widths, metres, over which the face runs into the open head's neck, and over which the bust follows the head; number
of the head's vertices that a vertex of the bust follows."""
SHAPE_LIMIT, RIDGE = 2.0, 5e-3
"""Largest shape coefficient of the bust, and the coefficients' weight against the distance of the fitted head."""


@dataclass(frozen=True, eq=False)
class IctShapes:
    """ICT-FaceKit's shapes on the V vertices of the open head, metres."""

    rest: Floats
    """(V, 3) neutral face."""
    identity: Floats
    """(M, V, 3) offsets of the identity modes."""
    offsets: Floats
    """(A, V, 3) offsets of the actions at full strength."""
    action_names: NDArray[np.str_]
    """(A,) names of the actions."""
    eye: NDArray[np.uint8]
    """(V,) 1 for vertices of the left eyeball, 2 for those of the right one, 0 for others."""


@dataclass(frozen=True, eq=False)
class IctFigure(OpenFigure):
    """A person with a face of ICT-FaceKit; see ``pipelines.studio.people.figure.Figure``."""

    shapes: IctShapes
    """Shapes that all people share."""

    def _head(self, pose: Pose) -> tuple[Floats, None, None]:
        """Return the open head's vertices (V, 3); such a face has no coefficients of the open head."""
        names = self.shapes.action_names.tolist()
        actions = split_gaze(pose.actions) | gaze_actions(pose.gaze)
        if unknown := [name for name in actions if name not in names]:
            raise ValueError(f"people of ICT-FaceKit have no action {unknown[0]!r}; they have {names}")
        rest = self.rest[self.base.head_vertex]
        rows = [names.index(name) for name in actions]
        strengths = np.array(list(actions.values()), np.float32)
        vertices = rest + np.einsum("a,avc->vc", strengths, self.shapes.offsets[rows])
        for side, (centre, angles) in enumerate(zip(self._eyeballs[0], pose.gaze, strict=True)):
            ball = self.shapes.eye == side + 1
            vertices[ball] = (rest[ball] - centre) @ gaze_rotation(*angles).T + centre
        return vertices.astype(np.float32), None, None


@dataclass(frozen=True, eq=False)
class IctSource:
    """People with faces of ICT-FaceKit."""

    open: OpenSource
    """The source of the open head, whose skins, hair and bust they have."""
    shapes: IctShapes
    """ICT-FaceKit's shapes."""

    name = "ict"
    training_allowed = True
    credits = (
        "ICT-FaceKit, Copyright (c) 2020 USC Institute for Creative Technologies, MIT",
        *OpenSource.credits,
    )

    def person(self, identity_id: str) -> IctFigure:
        """Make a person; see ``PeopleSource.person``."""
        facts = draw_facts(identity_id)
        own = self.shapes.rest + np.einsum("m,mvc->vc", self._draw(identity_id, facts), self.shapes.identity)
        shape, rest = self._on_base(own)
        figure = self.open.figure(identity_id, facts, shape, rest, self.name)
        return IctFigure(**{f.name: getattr(figure, f.name) for f in fields(OpenFigure)}, shapes=self.shapes)

    def _draw(self, identity_id: str, facts: Facts) -> Floats:
        """Draw the coefficients (M,) of a face that fits the sex and the age."""
        g = np.random.default_rng([seed_of(identity_id), 23])
        spread = UNUSUAL_SPREAD if facts.unusual else SPREAD
        drawn = g.normal(scale=spread, size=(CANDIDATES, len(self.shapes.identity))).clip(-LIMIT, LIMIT)
        traits = np.array([np.mean(GENDER[facts.sex]), np.mean(AGE[facts.age])])
        wanted = (traits - self.open.base.trait_mean) @ self.open.base.trait_slope
        return drawn[((drawn @ self._fit_of_modes) @ wanted).argmax()].astype(np.float32)

    @cached_property
    def _fit(self) -> NDArray[np.float64]:
        """Matrix (3 V, S) from offsets of the head's vertices to the shape coefficients that fit them best."""
        directions = self.open.head.shape_directions.numpy().astype(np.float64).reshape(-1, self.open.head.n_shape)
        gram = directions.T @ directions + RIDGE * np.eye(directions.shape[1])
        return np.asarray(np.linalg.solve(gram, directions.T).T)

    @cached_property
    def _fit_of_modes(self) -> NDArray[np.float64]:
        """Shape coefficients (M, S) of the identity modes."""
        return self.shapes.identity.reshape(len(self.shapes.identity), -1).astype(np.float64) @ self._fit

    @cached_property
    def _neck(self) -> tuple[Floats, NDArray[np.int64], Floats]:
        """Shares (V,) of the face in the head; for each base vertex, head vertices (N, K) and their weights (N, K)."""
        base = self.open.base
        template = base.template[base.head_vertex]
        rim = np.isin(base.head_vertex, base.bust_triangles)
        away = cKDTree(template[rim]).query(template)[0] / RIM
        share = np.clip(away, 0, 1)
        distance, near = cKDTree(template).query(base.template, k=NEIGHBOURS)
        weights = np.exp(-((distance / REACH) ** 2))
        return (share * share * (3 - 2 * share)).astype(np.float32), near, (weights / NEIGHBOURS).astype(np.float32)

    def _on_base(self, own: Floats) -> tuple[Floats, Floats]:
        """Return shape coefficients (S,) near a face (V, 3), and the base mesh (N, 3) with that face."""
        head, base = self.open.head, self.open.base
        shape = (
            ((own - head.template.numpy()).reshape(-1) @ self._fit).clip(-SHAPE_LIMIT, SHAPE_LIMIT).astype(np.float32)
        )
        rest = base.shaped(shape)
        share, near, weights = self._neck
        rest_of_face = share[:, None] * (own - rest[base.head_vertex])
        rest = rest + np.einsum("nk,nkc->nc", weights, rest_of_face[near])
        rest[base.head_vertex] = base.shaped(shape)[base.head_vertex] + rest_of_face
        return shape, rest.astype(np.float32)


def open_ict_source(cache: Path, people: OpenSource, assets: AssetKit | Path) -> IctSource:
    """Open the people of ICT-FaceKit; its shapes are registered to the open head the first time, and kept.

    Args:
        cache: Cache folder of heads.
        people: The source of the open head, with its landmarks.
        assets: Kit with the packed file, or the folder of a checkout of ICT-FaceKit.

    Raises:
        ValueError: The data are missing, damaged or of another version.
    """
    head = people.head
    path = cache / "heads" / f"ict-v{VERSION}-{ict_digest(assets)[:12]}-{head.digest[:12]}.npz"
    if path.is_file():
        with np.load(path, allow_pickle=False) as stored:
            if set(stored.files) == {f.name for f in fields(IctShapes)}:
                return IctSource(people, IctShapes(**{name: stored[name] for name in stored.files}))
    shapes = register_ict(head, assets)
    arrays = io.BytesIO()
    np.savez(arrays, **{f.name: getattr(shapes, f.name) for f in fields(shapes)})
    write_atomically(arrays.getvalue(), path)
    return IctSource(people, shapes)


def register_ict(head: HeadModel, assets: AssetKit | Path) -> IctShapes:
    """Return ICT-FaceKit's shapes on the open head's vertices; the tongue comes out as the open head's does."""
    model = load_ict_model(assets)
    wrap = wrap_head(head, model)
    actions = {name: carried(wrap, offsets, eyes_turn=True) for name, offsets in model.action_offsets().items()}
    actions["tongueOut"] = _open_tongue(head)
    identity = np.stack([carried(wrap, offsets) for offsets in model.identity])
    rest = wrap.position.astype(np.float32)
    return IctShapes(rest, identity, np.stack(list(actions.values())), np.array(list(actions)), wrap.eye)


def _open_tongue(head: HeadModel) -> Floats:
    """Return the offsets (V, 3) of the open head's tongue that is fully out."""
    from ffavatar_model.head import actions_to_parameters, pose_head_numpy

    expression, rotations = (t.numpy() for t in actions_to_parameters(head, {"tongueOut": 1.0}))
    vertices, _ = pose_head_numpy(head, np.zeros((1, 0), np.float32), expression, rotations)
    tongue = head.region("tongue").numpy()[:, None]
    return ((vertices[0] - head.template.numpy()) * tongue).astype(np.float32)
