"""A capture rig: calibrated cameras all round one person, several segments, full pictures, and the truth of it all.

Both official layouts are written from it. The rig's world is not the head's: its axes and origin are drawn at random,
as in a real rig, so that nothing works by an identity matrix.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from pipelines.conversion.head_crops import HEAD_CENTRE
from pipelines.media.cameras import Camera, compose, look_at, rotation_yxz
from pipelines.studio.mesh import Mesh, grid_barycentric, merge
from pipelines.studio.performance import Timestep, perform
from pipelines.studio.person import StudioPerson, make_identity
from pipelines.studio.renderer import Lighting, build_scene, cast, encode_srgb, render_mesh
from pipelines.studio.scenes import random_background, random_lighting, seen_from_head
from pipelines.studio.segmentation import Part, triangle_parts
from pipelines.studio.studio_head import ORDER, StudioHead

Floats = NDArray[np.float32]
CHAIR = ((-0.17, -0.45, -0.28), (0.17, -0.19, -0.24))
"""Two corners of the chair's back, metres, in the head's axes at rest."""


@dataclass(frozen=True, kw_only=True)
class RigSpec:
    """How a rig is built. Angles in radians, lengths in metres."""

    n_cameras: int
    width: int
    height: int
    """Pixels of the full picture."""
    max_yaw: float = np.pi
    """Cameras stand from ``-max_yaw`` to ``max_yaw`` round the head; pi is all round it."""
    pitch: tuple[float, float] = (-0.5, 0.8)
    distance: tuple[float, float] = (1.1, 1.5)
    span: float = 0.62
    """Metres at the head that the picture's height spans."""
    chair: bool = False


@dataclass(frozen=True)
class RigView:
    """One picture of a rig, with its truth."""

    camera_id: str
    rgb: NDArray[np.uint8]
    """(H, W, 3) sRGB."""
    alpha: Floats
    """(H, W) share of the pixel that the person (not the chair) covers; where the chair is seen, 0 or 1."""
    parts: NDArray[np.uint8]
    """(H, W) the ``Part`` at each pixel's middle."""


@dataclass(frozen=True)
class RigCapture:
    """A planned capture: everything but the pictures, which ``render`` makes moment by moment."""

    person: StudioPerson
    cameras: Mapping[str, Camera]
    """Of full pictures, by name; world axes of the rig, metres."""
    moments: tuple[Timestep, ...]
    lighting: Lighting
    """In the world's axes."""
    backgrounds: Mapping[str, Floats]
    """(H, W, 3) linear light behind the person, by camera."""
    chair: Mesh | None
    """In the world's axes."""

    def vertices(self, moment: Timestep) -> Floats:
        """(V, 3) the head model's vertices at a moment, in the head's frame, metres: without hair and glasses."""
        shape = self.person.shape[None]
        return self.person.head.pose(shape, moment.expression[None], moment.rotations[None])[0][0]

    def empty(self, camera_id: str) -> NDArray[np.uint8]:
        """(H, W, 3) sRGB: the camera's picture of the empty stage."""
        return encode_srgb(self.backgrounds[camera_id])

    def render(self, moment: Timestep, samples: int = 2) -> Iterator[RigView]:
        """Each camera's picture of a moment."""
        mesh = self.person.meshes(moment.expression[None], moment.rotations[None])[0]
        parts = self._parts
        if self.chair is not None:
            turn, shift = moment.head_to_world[:, :3], moment.head_to_world[:, 3]
            mesh = merge([mesh, self.chair.posed((self.chair.vertices - shift) @ turn)])
        scene, lights = build_scene(mesh), seen_from_head(self.lighting, moment.head_to_world)
        for name, camera in self.cameras.items():
            near = camera.moved(moment.head_to_world)
            seen = render_mesh(scene, near, lights, self.backgrounds[name], samples)
            triangle = cast(scene, near).triangle  # one ray through each pixel's middle
            labels = np.where(triangle >= 0, parts[triangle], np.uint8(Part.BACKGROUND))
            chair = labels == Part.CHAIR
            yield RigView(name, seen.rgb, np.where(chair, np.float32(0), seen.alpha), labels)

    @cached_property
    def _parts(self) -> NDArray[np.uint8]:
        chair = 0 if self.chair is None else len(self.chair.triangles)
        return np.concatenate([triangle_parts(self.person), np.full(chair, Part.CHAIR, np.uint8)])


def plan_rig(
    head: StudioHead,
    identity_id: str,
    spec: RigSpec,
    segments: Mapping[str, int],
    seed: int = 0,
    *,
    camera_names: tuple[str, ...] = (),
    fps: float = 30.0,
    first_frame: int = 0,
    frame_step: int = 1,
) -> RigCapture:
    """One person in a rig, doing the segments (name → frames); the same each time for the same arguments.

    ``camera_names`` name the cameras in their order (the first stands nearly in front); ``fps``, ``first_frame`` and
    ``frame_step`` are ``perform``'s. Raises ``ValueError`` for a camera without a name, or no camera or frame.
    """
    names = camera_names or tuple(f"{i:02d}" for i in range(spec.n_cameras))
    n_frames = sum(segments.values())
    if spec.n_cameras < 1 or n_frames < 1:
        raise ValueError(f"{spec.n_cameras} cameras and {n_frames} frames: at least one of each is needed")
    if len(set(names)) < spec.n_cameras:
        raise ValueError(f"{len(set(names))} names for {spec.n_cameras} cameras: name each one differently")
    person = make_identity(head, identity_id)
    g = np.random.default_rng([person.look.seed, seed, 7])
    # The rig's world: any rotation, an origin some way off.
    world = np.concatenate([rotation_yxz(*g.uniform(-np.pi, np.pi, 3)), g.normal(scale=0.3, size=(3, 1))], axis=1)
    inverse = np.concatenate([world[:, :3].T, -world[:, :3].T @ world[:, 3:]], axis=1)
    cameras = {
        name: Camera(c.K, compose(c.world_to_camera, inverse), c.width, c.height)
        for name, c in zip(names, rig_cameras(g, spec), strict=False)
    }
    moments = perform(head, g, segments, fps, first_frame, frame_step)
    chair = _chair(g) if spec.chair else None
    return RigCapture(
        person=person,
        cameras=cameras,
        moments=tuple(replace(m, head_to_world=compose(world, m.head_to_world)) for m in moments),
        lighting=seen_from_head(random_lighting(g), inverse),
        backgrounds={name: random_background(g, spec.width, spec.height) for name in cameras},
        chair=chair and chair.posed(chair.vertices @ world[:, :3].T + world[:, 3]),
    )


def rig_cameras(g: np.random.Generator, spec: RigSpec) -> list[Camera]:
    """The rig's cameras in the head's axes at rest: the first nearly in front, the others spread round the head.

    Focal lengths differ a little between the axes, and the principal point lies off the picture's middle, as in a
    calibration.
    """
    n, cameras = spec.n_cameras, []
    yaws = (np.arange(n) + g.uniform(0.2, 0.8, n)) / n * 2 - 1
    yaws = spec.max_yaw * yaws[np.argsort(np.abs(yaws), kind="stable")]
    yaws[0] = g.uniform(-0.1, 0.1)
    for i, yaw in enumerate(yaws):
        pitch = g.uniform(-0.05, 0.1) if i == 0 else g.uniform(*spec.pitch)
        distance = g.uniform(*spec.distance)
        target = HEAD_CENTRE + g.normal(scale=0.01, size=3)
        towards = np.array([np.sin(yaw) * np.cos(pitch), np.sin(pitch), np.cos(yaw) * np.cos(pitch)])
        focal = spec.height * distance / spec.span
        middle = (0.5 + g.uniform(-0.04, 0.04, 2)) * (spec.width, spec.height)
        fx, fy = focal * (1 + g.normal(scale=1e-3, size=2))
        K = np.array([[fx, 0, middle[0]], [0, fy, middle[1]], [0, 0, 1.0]])
        place = look_at(target + distance * towards, target, g.normal(scale=0.05))
        cameras.append(Camera(K, place, spec.width, spec.height))
    return cameras


def _chair(g: np.random.Generator) -> Mesh:
    """The back of a chair: a box of one colour."""
    low, high = np.array(CHAIR)
    corners = np.array(
        [
            [low[0], low[1], low[2]],
            [high[0], low[1], low[2]],
            [high[0], high[1], low[2]],
            [low[0], high[1], low[2]],
            [low[0], low[1], high[2]],
            [high[0], low[1], high[2]],
            [high[0], high[1], high[2]],
            [low[0], high[1], high[2]],
        ]
    )
    quads = ((4, 5, 6, 7), (1, 0, 3, 2), (0, 4, 7, 3), (5, 1, 2, 6), (7, 6, 2, 3), (0, 1, 5, 4))
    triangles = np.array([t for a, b, c, d in quads for t in ((a, b, c), (a, c, d))])
    colour = np.array([*g.uniform(0.02, 0.1, 3), 0.1], np.float32)
    colours = np.broadcast_to(colour, (len(triangles), len(grid_barycentric(ORDER)), 4))
    return Mesh(corners.astype(np.float32), triangles, colours, ORDER)
