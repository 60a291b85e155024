"""A capture rig: calibrated cameras all around one person, several segments, full images, and their truth.

The data of both official layouts are rendered with this rig. As in a real rig, the axes and origin of the world differ
from those of the head; they are drawn at random, so that no code works only because a matrix is the identity.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from pipelines.conversion.head_crops import HEAD_CENTRE
from pipelines.media.cameras import Array, Camera, compose, look_at, rotation_yxz
from pipelines.media.srgb import encode_srgb
from pipelines.studio.mesh import Mesh, grid_barycentric, merge
from pipelines.studio.part_classes import Part
from pipelines.studio.performance import Timestep, plan_timesteps
from pipelines.studio.person import StudioPerson, make_person
from pipelines.studio.renderer import Lighting, build_scene, cast_rays, render_mesh
from pipelines.studio.scenes import lighting_in_head_frame, random_background, random_lighting
from pipelines.studio.segmentation import triangle_parts
from pipelines.studio.studio_head import ORDER, StudioHead

Floats = NDArray[np.float32]
CHAIR = ((-0.17, -0.45, -0.28), (0.17, -0.19, -0.24))
"""Two opposite corners of the back of the chair, in the head's frame at rest, metres."""


@dataclass(frozen=True, kw_only=True)
class RigSpec:
    """Settings of a rig. Angles are in radians, lengths in metres."""

    n_cameras: int
    """Number of cameras."""
    width: int
    """Width of the full image, pixels."""
    height: int
    """Height of the full image, pixels."""
    max_yaw: float = np.pi
    """Largest yaw of a camera: cameras stand from ``-max_yaw`` to ``max_yaw``; with pi they are all around the head."""
    pitch: tuple[float, float] = (-0.5, 0.8)
    """Range of the cameras' elevation."""
    distance: tuple[float, float] = (1.1, 1.5)
    """Range of the cameras' distance from the head."""
    span: float = 0.62
    """Length that the height of the image spans at the head's distance."""
    chair: bool = False
    """Show the back of a chair behind the person."""


@dataclass(frozen=True)
class RigView:
    """One rendered image of a rig, with its truth."""

    camera_id: str
    """Name of the camera."""
    rgb: NDArray[np.uint8]
    """(H, W, 3) sRGB image."""
    alpha: Floats
    """(H, W) share of the pixel that the person covers; 0 if the centre of the pixel shows the chair."""
    parts: NDArray[np.uint8]
    """(H, W) ``Part`` at the centre of each pixel."""


@dataclass(frozen=True)
class RigCapture:
    """A planned capture without its images, which ``render_views`` renders timestep by timestep."""

    person: StudioPerson
    """Person who is captured."""
    cameras: Mapping[str, Camera]
    """Name → camera of the full image, in the rig's world, metres."""
    timesteps: tuple[Timestep, ...]
    """Performance of the person."""
    lighting: Lighting
    """Lighting in the axes of the world."""
    backgrounds: Mapping[str, Floats]
    """Name of the camera → (H, W, 3) linear light behind the person."""
    chair: Mesh | None
    """Back of the chair in the world, metres; None without a chair."""

    def vertices(self, timestep: Timestep) -> Floats:
        """Return the head model's vertices (V, 3) in the head's frame, metres, without hair and glasses."""
        shape = self.person.shape[None]
        return self.person.head.pose(shape, timestep.expression[None], timestep.rotations[None])[0][0]

    def render_background(self, camera_id: str) -> NDArray[np.uint8]:
        """Return a camera's image of the empty room, (H, W, 3) sRGB."""
        return encode_srgb(self.backgrounds[camera_id])

    def render_views(self, timestep: Timestep, samples: int = 2) -> Iterator[RigView]:
        """Render each camera's image of a timestep.

        Args:
            timestep: One of ``timesteps``.
            samples: Number of rays along each edge of a pixel.

        Yields:
            One view per camera, in the order of ``cameras``.
        """
        mesh = self.person.meshes(timestep.expression[None], timestep.rotations[None])[0]
        parts = self._parts
        if self.chair is not None:
            turn, shift = timestep.head_to_world[:, :3], timestep.head_to_world[:, 3]
            mesh = merge([mesh, self.chair.posed((self.chair.vertices - shift) @ turn)])
        scene, lighting = build_scene(mesh), lighting_in_head_frame(self.lighting, timestep.head_to_world)
        for name, camera in self.cameras.items():
            in_head_frame = camera.moved(timestep.head_to_world)
            image = render_mesh(scene, in_head_frame, lighting, self.backgrounds[name], samples)
            triangle = cast_rays(scene, in_head_frame).triangle  # one ray through the centre of each pixel
            labels = np.where(triangle >= 0, parts[triangle], np.uint8(Part.BACKGROUND))
            alpha = np.where(labels == Part.CHAIR, np.float32(0), image.alpha)
            yield RigView(name, image.rgb, alpha, labels)

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
    """Plan the capture of one person in a rig; the same arguments give the same capture.

    Args:
        head: The studio's head.
        identity_id: Id of the person.
        spec: Settings of the rig.
        segments: Name of the segment → number of its frames, in order.
        seed: Seed of the rig and the performance; another seed gives other ones of the same person.
        camera_names: Names of the cameras in order, the nearly frontal camera first; by default numbers.
        fps: Frame numbers per second.
        first_frame: Number of the first frame.
        frame_step: Difference between consecutive frame numbers.

    Returns:
        The planned capture.

    Raises:
        ValueError: There is no camera or no frame, or there are fewer distinct names than cameras.
    """
    names = camera_names or tuple(f"{i:02d}" for i in range(spec.n_cameras))
    n_frames = sum(segments.values())
    if spec.n_cameras < 1 or n_frames < 1:
        raise ValueError(f"{spec.n_cameras} cameras and {n_frames} frames: at least one of each is needed")
    if len(set(names)) < spec.n_cameras:
        raise ValueError(f"{len(set(names))} names for {spec.n_cameras} cameras: name each one differently")
    person = make_person(head, identity_id)
    g = np.random.default_rng([person.appearance.seed, seed, 7])
    # The rig's world has a random rotation and an origin that is not in the head.
    world = np.concatenate([rotation_yxz(*g.uniform(-np.pi, np.pi, 3)), g.normal(scale=0.3, size=(3, 1))], axis=1)
    inverse = invert_rigid(world)
    cameras = {
        name: Camera(c.K, compose(c.world_to_camera, inverse), c.width, c.height)
        for name, c in zip(names, random_rig_cameras(g, spec), strict=False)
    }
    timesteps = plan_timesteps(head, g, segments, fps, first_frame, frame_step)
    chair = _chair(g) if spec.chair else None
    return RigCapture(
        person=person,
        cameras=cameras,
        timesteps=tuple(replace(t, head_to_world=compose(world, t.head_to_world)) for t in timesteps),
        lighting=lighting_in_head_frame(random_lighting(g), inverse),
        backgrounds={name: random_background(g, spec.width, spec.height) for name in cameras},
        chair=chair and chair.posed(chair.vertices @ world[:, :3].T + world[:, 3]),
    )


def invert_rigid(transform: Array) -> Array:
    """Return the inverse (3, 4) of a rigid transform (3, 4)."""
    return np.concatenate([transform[:, :3].T, -transform[:, :3].T @ transform[:, 3:]], axis=1)


def random_rig_cameras(g: np.random.Generator, spec: RigSpec) -> list[Camera]:
    """Draw the rig's cameras in the head's frame at rest: the first nearly in front, the others around the head.

    As in a real calibration, the focal lengths of the two axes differ slightly, and the principal point is not at the
    centre of the image.

    Args:
        g: Random generator.
        spec: Settings of the rig.
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
        cx, cy = (0.5 + g.uniform(-0.04, 0.04, 2)) * (spec.width, spec.height)
        fx, fy = focal * (1 + g.normal(scale=1e-3, size=2))
        K = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1.0]])
        world_to_camera = look_at(target + distance * towards, target, g.normal(scale=0.05))
        cameras.append(Camera(K, world_to_camera, spec.width, spec.height))
    return cameras


def _chair(g: np.random.Generator) -> Mesh:
    """Build the back of a chair, a box of one colour."""
    (x0, y0, z0), (x1, y1, z1) = CHAIR
    corners = np.array(
        [
            [x0, y0, z0],
            [x1, y0, z0],
            [x1, y1, z0],
            [x0, y1, z0],
            [x0, y0, z1],
            [x1, y0, z1],
            [x1, y1, z1],
            [x0, y1, z1],
        ]
    )
    quads = ((4, 5, 6, 7), (1, 0, 3, 2), (0, 4, 7, 3), (5, 1, 2, 6), (7, 6, 2, 3), (0, 1, 5, 4))
    triangles = np.array([t for a, b, c, d in quads for t in ((a, b, c), (a, c, d))])
    colour = np.array([*g.uniform(0.02, 0.1, 3), 0.1], np.float32)
    colours = np.broadcast_to(colour, (len(triangles), len(grid_barycentric(ORDER)), 4))
    return Mesh(corners.astype(np.float32), triangles, colours, ORDER)
