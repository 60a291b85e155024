"""Images of a studio person as arrays, cropped like real images in the face stack, with their truth.

They are meant for experiments that render their data on the machine that trains; nothing is encoded or stored.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mfhq.ids import seed_of
from pipelines.conversion.head_crops import HEAD_CENTRE, aligned_crop
from pipelines.faces.align import Matrix, crop_transform
from pipelines.media.cameras import Array, Camera, aimed_camera, rotation_yxz
from pipelines.studio.motion import gaze, random_expression, speech
from pipelines.studio.person import make_person
from pipelines.studio.renderer import Lighting, Scene, build_scene, render_mesh
from pipelines.studio.scenes import lighting_in_head_frame, random_background, random_lighting
from pipelines.studio.studio_head import StudioHead

Floats = NDArray[np.float32]
N_MESH = 468
"""Number of points of the face mesh."""
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


def render_portraits(head: StudioHead, identity_id: str, n: int, size: int) -> PersonImages:
    """Render timesteps in front of one camera (|yaw| up to 40°), like the faces of a person mined from a video.

    Args:
        head: Head of the studio, with landmarks.
        identity_id: Id of the person.
        n: Number of timesteps, which is also the number of images.
        size: Side of an image, pixels.
    """
    g = np.random.default_rng([seed_of(identity_id), 20])
    camera = aimed_camera(
        float(g.normal(scale=0.12)),
        float(g.normal(scale=0.08)),
        distance=g.uniform(0.55, 1.6),
        target=HEAD_CENTRE,
        span=FULL_SPAN,
        size=FULL_PX,
        roll=float(g.normal(scale=0.03)),
    )
    return _render(head, identity_id, g, n, [camera], size)


def render_all_round_views(head: StudioHead, identity_id: str, timesteps: int, cameras: int, size: int) -> PersonImages:
    """Render ``timesteps`` x ``cameras`` images from cameras spread evenly around the head, the first nearly in front.

    Args:
        head: Head of the studio, with landmarks.
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
    return _render(head, identity_id, g, timesteps, rig, size)


def random_actions(g: np.random.Generator, head: StudioHead) -> dict[str, float]:
    """Draw the actions of one timestep: rest, speech, an expression, or arbitrary actions, with a random gaze.

    Args:
        g: Random generator.
        head: Head whose actions are drawn.

    Returns:
        Action → strength.
    """
    kind = g.random()
    actions: dict[str, float] = {}
    if kind < 0.25:
        actions = {name: float(value[0]) for name, value in speech(g, np.array([0.0, 0.1])).items()}
    elif kind < 0.7:
        actions = random_expression(g)[1]
    elif kind < 0.9:
        for name in g.choice(len(head.model.action_names), int(g.integers(1, 5)), replace=False):
            actions[head.model.action_names[name]] = float(g.uniform(0.3, 1.0))
    actions |= gaze(float(g.normal(scale=0.4)), float(g.normal(scale=0.25)))
    if g.random() < 0.12:
        blink = float(g.uniform(0.5, 1.0))
        actions |= {"eyeBlinkLeft": blink, "eyeBlinkRight": blink}
    return actions


def _render(
    head: StudioHead, identity_id: str, g: np.random.Generator, n: int, cameras: list[Camera], size: int
) -> PersonImages:
    person, lighting = make_person(head, identity_id), random_lighting(g)
    actions = [random_actions(g, head) for _ in range(n)]
    parameters = [head.parameters({k: np.array([v]) for k, v in a.items()}) for a in actions]
    expression, rotations = np.concatenate([p[0] for p in parameters]), np.concatenate([p[1] for p in parameters])
    rotations[:, 1] += g.normal(scale=0.04, size=(n, 3))
    shape = np.broadcast_to(person.shape, (n, len(person.shape)))
    posed, _ = head.pose(shape, expression, rotations)
    backgrounds = [random_background(g, size) for _ in cameras]
    rows: dict[str, list[Any]] = {
        name: [] for name in ("rgb", "matte", "landmarks", "irises", "K", "camera", "timestep", "azimuth")
    }
    for timestep, mesh in enumerate(person.meshes(expression, rotations)):
        turn = rotation_yxz(*np.clip(g.normal(scale=[0.28, 0.13, 0.1]), -0.7, 0.7))
        pose = np.concatenate([turn, (HEAD_CENTRE - turn @ HEAD_CENTRE + g.normal(scale=0.01, size=3))[:, None]], 1)
        lighting_in_head, scene = lighting_in_head_frame(lighting, pose), build_scene(mesh)
        points = _mesh_points(head, posed[timestep])
        for camera, background in zip(cameras, backgrounds, strict=True):
            crop = _crop(camera, pose, points, size, g)
            in_head_frame = crop.moved(pose)
            rgb, matte = _image_and_matte(scene, in_head_frame, lighting_in_head, background)
            pixels, _ = in_head_frame.project(points)
            to_camera = in_head_frame.centre - HEAD_CENTRE
            rows["rgb"].append(rgb)
            rows["matte"].append(matte)
            rows["landmarks"].append(np.where(np.any(points, -1, keepdims=True), pixels / size, 0.0))
            rows["irises"].append(in_head_frame.project(posed[timestep][head.irises])[0] / size)
            rows["K"].append(crop.K)
            rows["camera"].append(in_head_frame.world_to_camera)
            rows["timestep"].append(timestep)
            rows["azimuth"].append(np.degrees(np.arctan2(to_camera[0], to_camera[2])))
    timesteps = np.array(rows["timestep"], np.int64)
    return PersonImages(
        identity_id=identity_id,
        rgb=np.stack(rows["rgb"]),
        matte=np.stack(rows["matte"]),
        landmarks=np.stack(rows["landmarks"]).astype(np.float32),
        irises=np.stack(rows["irises"]).astype(np.float32),
        K=np.stack(rows["K"]).astype(np.float32),
        head_to_camera=np.stack(rows["camera"]).astype(np.float32),
        timestep=timesteps,
        azimuth=np.array(rows["azimuth"], np.float32),
        expression=expression[timesteps].astype(np.float32),
        rotations=rotations[timesteps].astype(np.float32),
    )


def _image_and_matte(
    scene: Scene, camera: Camera, lighting: Lighting, background: NDArray[np.floating]
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Render RGB and matte with one ray per pixel at 1.5 times the size, and average them down."""
    size = camera.width
    large = round(1.5 * size)
    scaled = Camera(np.diag([large / size, large / size, 1.0]) @ camera.K, camera.world_to_camera, large, large)
    enlarged = cv2.resize(np.asarray(background, np.float32), (large, large), interpolation=cv2.INTER_LINEAR)
    rendered = render_mesh(scene, scaled, lighting, np.asarray(enlarged, np.float32), samples=1)
    rgb, alpha = (cv2.resize(p, (size, size), interpolation=cv2.INTER_AREA) for p in (rendered.rgb, rendered.alpha))
    return np.asarray(rgb, np.uint8), (np.asarray(alpha) * 255 + 0.5).astype(np.uint8)


def _mesh_points(head: StudioHead, posed: Floats) -> Array:
    """Return the face-mesh points (468, 3) on posed vertices (V, 3), metres; zero for points that the model lacks."""
    model, points = head.model, np.zeros((N_MESH, 3))
    corners = posed[model.triangles.numpy()[model.landmark_triangles.numpy()]]
    points[model.landmark_index.numpy()] = (corners * model.landmark_barycentric.numpy()[..., None]).sum(1)
    return points


def _crop(camera: Camera, pose: Array, points: Array, size: int, g: np.random.Generator) -> Camera:
    """Return the camera of the crop that the face stack would make."""
    in_head_frame = camera.moved(pose)
    to_camera = in_head_frame.centre - HEAD_CENTRE
    if abs(np.arctan2(to_camera[0], to_camera[2])) > FRONTAL:
        return aligned_crop(camera, pose, size)
    five = np.stack(
        [points[list(RIGHT_EYE)].mean(0), points[list(LEFT_EYE)].mean(0), points[NOSE], *points[list(MOUTH)]]
    )
    pixels, _ = in_head_frame.project(five)
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
