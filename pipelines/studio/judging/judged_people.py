"""Rendered people to be judged: the painted head, and figures of any source with any renderer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from mfhq.ids import seed_of
from pipelines.conversion.head_crops import HEAD_CENTRE
from pipelines.media.cameras import Camera, aimed_camera
from pipelines.studio.motion import gaze, random_actions, random_gaze
from pipelines.studio.people.figure import Attributes, PeopleSource, Pose
from pipelines.studio.person import make_person
from pipelines.studio.renderer import build_scene, render_mesh
from pipelines.studio.rendering.image import Renderer
from pipelines.studio.rendering.scene import StudioScene
from pipelines.studio.scenes import random_background, random_lighting
from pipelines.studio.studio_head import StudioHead

Image = NDArray[np.uint8]
FULL_GAZE = 0.6
"""Turn of the eyes that the painted head's actions of gaze reach at 1, radians."""
SPAN = 0.44
"""Width of the field of view at the head, metres."""


class JudgedPeople(Protocol):
    """People whose images are judged."""

    @property
    def name(self) -> str:
        """Name of the source, for the report."""
        ...

    def images(self, person: str, poses: Sequence[Pose], size: int) -> list[Image]:
        """Render poses of a person from the front, in one light, before one background.

        Args:
            person: Id of the person.
            poses: Poses.
            size: Side of an image, pixels.
        """
        ...

    def random_pose(self, g: np.random.Generator) -> Pose:
        """Draw a pose as the source's own images have them."""
        ...


@dataclass(frozen=True)
class PaintedPeople:
    """People of the painted head, drawn by the first renderer."""

    head: StudioHead
    """Head of the studio."""
    name: str = "painted"

    def images(self, person: str, poses: Sequence[Pose], size: int) -> list[Image]:
        """Render poses of a person, see ``JudgedPeople.images``."""
        g = np.random.default_rng([seed_of(person), 30])
        made, lighting, background = make_person(self.head, person), random_lighting(g), random_background(g, 2 * size)
        images = []
        for pose in poses:
            across, up = np.mean(pose.gaze, axis=0) / FULL_GAZE
            actions = {**pose.actions, **gaze(float(across), float(up))}
            parameters = self.head.parameters({k: np.array([v]) for k, v in actions.items()})
            scene = build_scene(made.meshes(*parameters)[0])
            camera = _camera(2 * size).moved(pose.head_to_world[:3])
            image = render_mesh(scene, camera, lighting, background, samples=1).rgb
            images.append(np.asarray(cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA), np.uint8))
        return images

    def random_pose(self, g: np.random.Generator) -> Pose:
        """Draw a pose, see ``JudgedPeople.random_pose``."""
        return random_turn(g, random_actions(g, self.head.model.action_names))


@dataclass(frozen=True)
class FigurePeople:
    """People of a source, drawn by a renderer."""

    source: PeopleSource
    """Source of the people."""
    renderer: Renderer
    """Renderer."""
    scenes: Sequence[StudioScene]
    """Light and background; a person's id chooses one."""
    head: StudioHead
    """Head whose named actions are drawn."""
    attributes: dict[str, Attributes] = field(default_factory=dict)
    """Person → its declared facts, of the people who were rendered so far."""

    @property
    def name(self) -> str:
        """Name of the source."""
        return self.source.name

    def images(self, person: str, poses: Sequence[Pose], size: int) -> list[Image]:
        """Render poses of a person, see ``JudgedPeople.images``."""
        figure, scene = self.source.person(person), self.scenes[seed_of(person) % len(self.scenes)]
        self.attributes[person] = figure.attributes
        return [self.renderer.render(figure, figure.pose(p), _camera(size), scene, truth=False).rgb for p in poses]

    def random_pose(self, g: np.random.Generator) -> Pose:
        """Draw a pose, see ``JudgedPeople.random_pose``."""
        return random_turn(g, random_actions(g, self.head.model.action_names))


def random_turn(g: np.random.Generator, actions: dict[str, float]) -> Pose:
    """Return a pose with a random gaze and a head that is turned a little, as people in front of a camera are."""
    x, y, z = g.normal(scale=[0.08, 0.2, 0.05])
    turn, _ = cv2.Rodrigues(np.array([x, y, z]))
    world = np.eye(4)
    world[:3, :3], world[:3, 3] = turn, HEAD_CENTRE - turn @ HEAD_CENTRE
    return Pose(actions=actions, gaze=random_gaze(g), head_to_world=world)


def _camera(size: int) -> Camera:
    return aimed_camera(0.0, 0.0, distance=1.0, target=HEAD_CENTRE, span=SPAN, size=size)
