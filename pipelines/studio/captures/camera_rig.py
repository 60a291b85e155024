"""A capture rig: calibrated cameras all around one person, several segments, full images, and their truth.

The data of both official layouts are rendered with this rig. As in a real rig, the axes and origin of the world differ
from those of the head; they are drawn at random, so that no code works only because a matrix is the identity.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mfhq.ids import seed_of
from pipelines.conversion.head_crops import HEAD_CENTRE
from pipelines.media.cameras import Array, Camera, compose, look_at, rotation_yxz
from pipelines.media.srgb import decode_srgb, encode_srgb
from pipelines.studio.captures.capture_studio import CaptureStudio
from pipelines.studio.captures.performance import Timestep, plan_timesteps
from pipelines.studio.part_classes import Part
from pipelines.studio.people.figure import Attributes, Figure, Material, Pose, PosedFigure, Surface
from pipelines.studio.people.wardrobe import flat
from pipelines.studio.rendering.development import background_light, develop
from pipelines.studio.rendering.image import Renderer, StudioImage
from pipelines.studio.rendering.scene import StudioScene

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


@dataclass(frozen=True, eq=False)
class SeatedFigure:
    """A person with the back of a chair behind; see ``Figure``."""

    person: Figure
    """The person."""
    chair: Surface
    """Back of the chair."""
    chair_vertices: Floats
    """(8, 3) its vertices in the studio, metres."""

    @property
    def identity_id(self) -> str:
        """Id of the person, with a mark, because renderers keep surfaces by it."""
        return f"{self.person.identity_id} on a chair"

    @property
    def attributes(self) -> Attributes:
        """Declared facts of the person."""
        return self.person.attributes

    @property
    def surfaces(self) -> tuple[Surface, ...]:
        """Surfaces of the person, then the chair."""
        return (*self.person.surfaces, self.chair)

    def pose(self, pose: Pose) -> PosedFigure:
        """Pose the person; the chair stands still."""
        posed = self.person.pose(pose)
        return replace(posed, vertices=(*posed.vertices, self.chair_vertices))


@dataclass(frozen=True)
class RigCapture:
    """A planned capture without its images, which ``render_views`` renders timestep by timestep."""

    figure: Figure
    """Person who is captured, with the chair if there is one."""
    identity_id: str
    """Id of the person."""
    shape: Floats
    """(S,) shape coefficients of the open head."""
    renderer: Renderer
    """Renderer."""
    cameras: Mapping[str, Camera]
    """Name → camera of the full image, in the rig's world, metres."""
    timesteps: tuple[Timestep, ...]
    """Performance of the person."""
    scene: StudioScene
    """Light and background in the axes of the studio."""
    studio_to_world: Array
    """(3, 4) transform from the studio, whose axes are those of the head at rest, to the rig's world, metres."""
    white: bool = False
    """Put the person before white instead of the scene's background."""

    def render_background(self, camera_id: str) -> NDArray[np.uint8]:
        """Return a camera's image of the empty room, (H, W, 3) sRGB."""
        camera = self.cameras[camera_id].moved(self.studio_to_world)
        if self.white:
            return np.full((camera.height, camera.width, 3), 255, np.uint8)
        return develop(background_light(self.scene, camera), self.scene.look, self.scene.noise_seed)

    def render_views(self, timestep: Timestep, cameras: Mapping[str, Camera] | None = None) -> Iterator[RigView]:
        """Render images of a timestep.

        Args:
            timestep: One of ``timesteps``.
            cameras: Name → camera in the rig's world; None for the rig's own.

        Yields:
            One view per camera, in the order of ``cameras``.
        """
        named = self.cameras if cameras is None else cameras
        moved = [camera.moved(self.studio_to_world) for camera in named.values()]
        scene = replace(self.scene, noise_seed=self.scene.noise_seed + 100 * (1 + timestep.frame_index))
        posed = self.figure.pose(timestep.pose)
        images = self.renderer.render_views(self.figure, posed, moved, scene)
        for name, camera, image in zip(named, moved, images, strict=True):
            if image.truth is None:
                raise RuntimeError(f"renderer {self.renderer.name} returned no truth for camera {name}")
            parts = image.truth.part
            alpha = np.where(parts == Part.CHAIR, np.float32(0), image.matte)
            rgb = before_white(image, scene, camera) if self.white else image.rgb
            yield RigView(name, rgb, alpha, parts)


def before_white(image: StudioImage, scene: StudioScene, camera: Camera) -> NDArray[np.uint8]:
    """Return the image (H, W, 3) with white instead of the background.

    Args:
        image: The image, with its linear light.
        scene: Light and background of the image.
        camera: The image's camera.

    Raises:
        ValueError: The image has no linear light.
    """
    if image.linear is None:
        raise ValueError("the image has no linear light: render it with truth")
    uncovered = (1 - image.matte)[..., None]
    person = develop(image.linear - uncovered * background_light(scene, camera), scene.look, scene.noise_seed)
    return encode_srgb(decode_srgb(person / np.float32(255)) + uncovered)


def plan_rig(
    studio: CaptureStudio,
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
        studio: People, renderer and light.
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
        ValueError: There is no camera or no frame, there are fewer distinct names than cameras, or the people have
            no parameters of the open head.
    """
    names = camera_names or tuple(f"{i:02d}" for i in range(spec.n_cameras))
    n_frames = sum(segments.values())
    if spec.n_cameras < 1 or n_frames < 1:
        raise ValueError(f"{spec.n_cameras} cameras and {n_frames} frames: at least one of each is needed")
    if len(set(names)) < spec.n_cameras:
        raise ValueError(f"{len(set(names))} names for {spec.n_cameras} cameras: name each one differently")
    person = studio.source.person(identity_id)
    g = np.random.default_rng([seed_of(identity_id), seed, 7])
    # The rig's world has a random rotation and an origin that is not in the head.
    world = np.concatenate([rotation_yxz(*g.uniform(-np.pi, np.pi, 3)), g.normal(scale=0.3, size=(3, 1))], axis=1)
    inverse = invert_rigid(world)
    cameras = {
        name: Camera(c.K, compose(c.world_to_camera, inverse), c.width, c.height)
        for name, c in zip(names, random_rig_cameras(g, spec), strict=False)
    }
    timesteps = plan_timesteps(person, g, segments, fps, first_frame, frame_step)
    shape = person.pose(Pose()).shape
    return RigCapture(
        figure=SeatedFigure(person, *_chair(g)) if spec.chair else person,
        identity_id=identity_id,
        shape=np.zeros(0, np.float32) if shape is None else shape,
        renderer=studio.renderer,
        cameras=cameras,
        timesteps=tuple(replace(t, head_to_world=compose(world, t.head_to_world)) for t in timesteps),
        scene=studio.scene(g),
        studio_to_world=world,
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


def _chair(g: np.random.Generator) -> tuple[Surface, Floats]:
    """Build the back of a chair, a box of one colour; return its surface and its vertices (8, 3)."""
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
    red, green, blue = (255 * g.uniform(0.15, 0.35, 3)).tolist()
    corners_uv = np.tile(np.array([[0, 0], [1, 0], [0, 1]], np.float32), (len(triangles), 1, 1))
    material = Material(flat((red, green, blue)), roughness=0.7)
    surface = Surface("chair", triangles.astype(np.int32), corners_uv, Part.CHAIR, material)
    return surface, corners.astype(np.float32)
