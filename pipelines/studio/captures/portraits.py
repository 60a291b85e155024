"""Images of a studio person as arrays, cropped like real images in the face stack, with their truth.

They are meant for experiments that render their data on the machine that trains; nothing is encoded or stored.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mfhq.ids import seed_of
from pipelines.conversion.head_crops import HEAD_CENTRE, aligned_crop
from pipelines.faces.align import Matrix, crop_transform
from pipelines.media.cameras import Array, Camera, aimed_camera, rotation_yxz
from pipelines.studio.captures.capture_studio import CaptureStudio
from pipelines.studio.motion import random_actions, random_gaze
from pipelines.studio.people.figure import N_MESH, Pose

if TYPE_CHECKING:
    pass

Floats = NDArray[np.float32]
RIGHT_EYE, LEFT_EYE, NOSE, MOUTH = (133, 130, 145, 159), (362, 359, 374, 386), 1, (61, 291)
"""Indices of face-mesh points: around each eye, the tip of the nose, and the corners of the mouth (right, left)."""
FRONTAL = np.radians(60.0)
"""Largest yaw, radians, at which an image is cropped by five landmarks, as after face detection.

Beyond it, the crop is centred on the head.
"""
FULL_SPAN, FULL_PX = 0.6, 1000
"""Span of a camera's full image at the head in metres, and its side in pixels."""
MISS = 0.02
"""Standard deviation of the simulated detector's landmark errors, as a share of the distance between the eyes."""
SHOULDERS_STAY = (0.3, 1.0)
"""Least and largest share of the head's turn that the shoulders do not follow."""


@dataclass(frozen=True)
class PersonImages:
    """N square images of one person, S x S pixels each."""

    identity_id: str
    """Id of the person."""
    rgb: NDArray[np.uint8]
    """(N, S, S, 3) RGB images with background."""
    matte: NDArray[np.uint8]
    """(N, S, S) mattes, 255 is the person."""
    landmarks: Floats
    """(N, 468, 2) true positions of the face-mesh points as shares of the side; zero for points without truth."""
    irises: Floats
    """(N, 2, 2) true positions of the centres of the irises, the left eye first, as shares of the side."""
    K: Floats
    """(N, 3, 3) intrinsics, pixels."""
    head_to_camera: Floats
    """(N, 3, 4) transforms from the head to the camera, metres."""
    timestep: NDArray[np.int64]
    """(N,) indices of the timesteps."""
    azimuth: Floats
    """(N,) azimuths of the cameras around the head, degrees: 0 in front, positive on the head's left."""
    expression: Floats
    """(N, E) expression coefficients."""
    rotations: Floats
    """(N, 5, 3) axis-angles of the joints, radians."""
    shape: Floats
    """(N, S) shape coefficients of the open head, the same in every image."""


def render_portraits(studio: CaptureStudio, identity_id: str, n: int, size: int) -> PersonImages:
    """Render timesteps in front of one camera (|yaw| up to 40°), like the faces of a person mined from a video.

    Args:
        studio: Source, renderer and light.
        identity_id: Id of the person.
        n: Number of timesteps, which is also the number of images.
        size: Side of an image, pixels.
    """
    g = np.random.default_rng([seed_of(identity_id), 20])
    camera = aimed_camera(
        float(g.normal(scale=0.12)),
        float(g.normal(scale=0.08)),
        distance=g.uniform(0.45, 1.8),
        target=HEAD_CENTRE,
        span=FULL_SPAN,
        size=FULL_PX,
        roll=float(g.normal(scale=0.03)),
    )
    return _render(studio, identity_id, g, n, [camera], size)


def render_all_round_views(
    studio: CaptureStudio, identity_id: str, timesteps: int, cameras: int, size: int
) -> PersonImages:
    """Render ``timesteps`` x ``cameras`` images from cameras spread evenly around the head, the first nearly in front.

    Args:
        studio: Source, renderer and light.
        identity_id: Id of the person.
        timesteps: Number of timesteps.
        cameras: Number of cameras; each of them renders every timestep.
        size: Side of an image, pixels.
    """
    g = np.random.default_rng([seed_of(identity_id), 21])
    yaws = (np.arange(cameras) / cameras * 2 * np.pi + g.uniform(-0.15, 0.15, cameras) + np.pi) % (2 * np.pi) - np.pi
    rig = [
        aimed_camera(
            float(yaw),
            float(g.uniform(-0.3, 0.3)),
            distance=g.uniform(0.8, 1.5),
            target=HEAD_CENTRE,
            span=FULL_SPAN,
            size=FULL_PX,
            roll=float(g.normal(scale=0.03)),
        )
        for yaw in yaws
    ]
    return _render(studio, identity_id, g, timesteps, rig, size)


def random_pose(g: np.random.Generator, action_names: tuple[str, ...]) -> Pose:
    """Draw an expression, a gaze of its own and a pose of the head, which the shoulders follow in part.

    Args:
        g: Random generator.
        action_names: Named actions that are drawn.
    """
    actions, eyes = random_actions(g, action_names), random_gaze(g)
    turn = rotation_yxz(*np.clip(g.normal(scale=[0.28, 0.13, 0.1]), -0.7, 0.7))
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = turn, HEAD_CENTRE - turn @ HEAD_CENTRE + g.normal(scale=0.01, size=3)
    neck = cv2.Rodrigues(turn)[0][:, 0] * g.uniform(*SHOULDERS_STAY)
    return Pose(actions, eyes, pose, (neck[0], neck[1], neck[2]))


def _render(
    studio: CaptureStudio, identity_id: str, g: np.random.Generator, n: int, cameras: list[Camera], size: int
) -> PersonImages:
    figure, scene = studio.source.person(identity_id), studio.scene(g)
    rows: dict[str, list[Any]] = {name: [] for name in PersonImages.__dataclass_fields__ if name != "identity_id"}
    for timestep in range(n):
        pose = random_pose(g, studio.head.action_names)
        posed, head_to_world = figure.pose(pose), pose.head_to_world[:3]
        if posed.expression is None or posed.rotations is None or posed.shape is None:
            raise ValueError(f"people of source {studio.source.name!r} have no coefficients of the open head")
        crops = [_crop(camera, head_to_world, posed.landmarks.astype(np.float64), size, g) for camera in cameras]
        images = studio.renderer.render_views(figure, posed, crops, scene, truth=False)
        for crop, image in zip(crops, images, strict=True):
            pixels = np.nan_to_num(crop.project(posed.landmarks)[0] / size)
            in_head_frame = crop.moved(head_to_world)
            to_camera = in_head_frame.centre - HEAD_CENTRE
            rows["rgb"].append(image.rgb)
            rows["matte"].append((image.matte * 255 + 0.5).astype(np.uint8))
            rows["landmarks"].append(pixels[:N_MESH].astype(np.float32))
            rows["irises"].append(pixels[[N_MESH + 5, N_MESH]].astype(np.float32))
            rows["K"].append(crop.K.astype(np.float32))
            rows["head_to_camera"].append(in_head_frame.world_to_camera.astype(np.float32))
            rows["timestep"].append(timestep)
            rows["azimuth"].append(np.float32(np.degrees(np.arctan2(to_camera[0], to_camera[2]))))
            rows["expression"].append(posed.expression)
            rows["rotations"].append(posed.rotations)
            rows["shape"].append(posed.shape)
    return PersonImages(identity_id, **{name: np.stack(values) for name, values in rows.items()})


def _crop(camera: Camera, pose: Array, points: Array, size: int, g: np.random.Generator) -> Camera:
    """Return the camera of the crop that the face stack would make."""
    to_camera = camera.moved(pose).centre - HEAD_CENTRE
    if abs(np.arctan2(to_camera[0], to_camera[2])) > FRONTAL:
        return aligned_crop(camera, pose, size)
    five = np.stack(
        [points[list(RIGHT_EYE)].mean(0), points[list(LEFT_EYE)].mean(0), points[NOSE], *points[list(MOUTH)]]
    )
    pixels, _ = camera.project(five)
    pixels += g.normal(scale=MISS * np.linalg.norm(pixels[1] - pixels[0]), size=pixels.shape)
    return crop_camera(camera, crop_transform(pixels - 0.5, size), size)


def crop_camera(camera: Camera, transform: Matrix, size: int) -> Camera:
    """Return the camera of the square crop that a similarity cuts out of a camera's image.

    The rotation of the image becomes a roll of the camera, so that the intrinsics have no rotation. This is exact for
    square pixels.

    Args:
        camera: Camera of the image; the centre of its first pixel is at (0.5, 0.5).
        transform: (2, 3) similarity from pixels of the image to pixels of the crop, for pixel centres with integer
            coordinates, as in OpenCV.
        size: Side of the crop, pixels.
    """
    linear, shift = transform[:, :2], transform[:, 2] + 0.5 - transform[:, :2] @ np.full(2, 0.5)
    scale = float(np.sqrt(np.linalg.det(linear)))
    roll = np.eye(3)
    roll[:2, :2] = linear / scale
    K = camera.K.copy()
    K[:2, :2] *= scale
    K[:2, 2] = linear @ camera.K[:2, 2] + shift
    return Camera(K, roll @ camera.world_to_camera, size, size)
