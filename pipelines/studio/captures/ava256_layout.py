"""Rendered captures in Ava-256's layout.

Differences from the official data:

- The mesh has the official number of vertices, but they are the open head's vertices and midpoints of its longest
  edges.
- The 274 keypoints are fixed points of this mesh without an anatomical meaning.
- The texture holds the person's colours in the open head's UV map and is the same in every frame.
- Glasses and hats are labelled as such, but the chair is a plain box.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from embreex import rtcore_scene
from embreex.mesh_construction import TriangleMesh
from numpy.typing import NDArray

from ava256 import naming
from ava256.camera_calibration import CalibratedCamera
from ava256.naming import CaptureName
from ava256.reader import ListedFrame
from ava256.writer import CaptureWriter, write_ids
from mfhq.ids import digest, seed_of
from pipelines.conversion.ava256_config import HEAD_AXES
from pipelines.media.cameras import Array, Camera, compose
from pipelines.studio.captures.camera_rig import RigCapture, RigSpec, invert_rigid, plan_rig
from pipelines.studio.captures.capture_studio import CaptureStudio
from pipelines.studio.captures.truth import write_truth
from pipelines.studio.people.figure import Surface
from pipelines.studio.rendering.lookup import sample_bilinear

if TYPE_CHECKING:
    from ffavatar_model.head import HeadModel

SEGMENTS = ("EXP_neutral_peak", "EXP_free_face", "EXP_smile", "SEN_a_good_morrow", "EXP_cheek_blow", "EXP_eyes_closed")
"""Names of the segments, in order; a capture uses the first ones."""
FRAME_STEP, FIRST_FRAME, FPS = 4, 1000, 30.0
"""Step between frame numbers, first frame number, and frame numbers per second.

As in the releases, frame numbers are not consecutive and do not begin at 0.
"""
DISTORTION = np.array([-0.073, 0.044, -0.0034, 0.0030])
"""Plausible distortion coefficients, similar to the example calibration in the data set's repository."""
SHIFT = np.array([0.004, -0.031, 0.052])
"""Position of the head model's origin in the frame of the written mesh, metres.

It is not zero, because the origins differ in the official data too.
"""
HEAD_FRAME = np.concatenate([HEAD_AXES.T, SHIFT[:, None]], axis=1)
"""(3, 4) transform from the head model's frame to the frame of the written mesh, metres."""


@dataclass(frozen=True, kw_only=True)
class Ava256Spec:
    """Settings of the captures to render."""

    n_cameras: int = 4
    """Number of cameras per capture."""
    frames: int = 6
    """Number of frames per capture, divided among ``segments``."""
    segments: tuple[str, ...] = SEGMENTS[:3]
    """Names of the segments."""
    height: int = 1024
    """Height of the images, pixels; the official heights are 1024 and 2048. The width has the official ratio."""
    absent: float = 0.02
    """Share of the images that are listed but not written."""
    uv_size: int = naming.UV_SIZE
    """Side of the texture, pixels."""

    @property
    def width(self) -> int:
        """Width of the images, pixels: 667 for a height of 1024."""
        return round(naming.FULL_WIDTH * self.height / naming.FULL_HEIGHT)


def write_ava256(
    studio: CaptureStudio, root: Path, n_identities: int, spec: Ava256Spec, seed: int = 0
) -> Iterator[Path]:
    """Write the captures of several people below ``root``; captures that exist are not changed.

    The truth of each capture is written to its folder ``truth`` by ``write_truth``; its poses are those of the head
    model's frame.

    Args:
        studio: People, renderer and light.
        root: Folder of the captures.
        n_identities: Number of people, with one capture per person.
        spec: Settings of the captures.
        seed: Another seed gives other people.

    Yields:
        Folder of each capture after it is complete.
    """
    names = []
    for number in range(n_identities):
        identity = digest(["studio", seed, number])
        names.append(capture_name(identity))
        if not (root / names[-1].folder).exists():
            write_capture(studio.head, plan_capture(studio, identity, spec, seed), root, names[-1], spec)
            write_ids(root, names)
        yield root / names[-1].folder


def capture_name(identity: str) -> CaptureName:
    """Return the name of a studio person's capture, in the official form."""
    g = np.random.default_rng([seed_of(identity), 256])
    letters = "".join(chr(65 + int(i)) for i in g.integers(0, 26, 3))
    date = f"2000{g.integers(1, 13):02d}{g.integers(1, 29):02d}"
    return CaptureName(date, f"{g.integers(8, 18):02d}{g.integers(0, 60):02d}", f"{letters}{g.integers(0, 1000):03d}")


def plan_capture(studio: CaptureStudio, identity: str, spec: Ava256Spec, seed: int = 0) -> RigCapture:
    """Plan a person's capture: upright images, a chair, and numbers as the cameras' names.

    Args:
        studio: People, renderer and light.
        identity: Id of the person.
        spec: Settings of the capture.
        seed: Seed of the rig and the performance; another seed gives other ones of the same person.
    """
    share, rest = divmod(spec.frames, len(spec.segments))
    segments = {name: share + (i < rest) for i, name in enumerate(spec.segments)}
    rig = RigSpec(n_cameras=spec.n_cameras, width=spec.width, height=spec.height, chair=True)
    names = tuple(f"4{i:05d}" for i in range(940, 940 + spec.n_cameras))
    return plan_rig(
        studio,
        identity,
        rig,
        segments,
        seed,
        camera_names=names,
        fps=FPS,
        first_frame=FIRST_FRAME,
        frame_step=FRAME_STEP,
    )


def write_capture(head: HeadModel, capture: RigCapture, root: Path, name: CaptureName, spec: Ava256Spec) -> None:
    """Render and write one capture with its truth.

    Args:
        head: The open head.
        capture: The planned capture.
        root: Folder of the captures.
        name: Name of the capture.
        spec: Settings of the capture.
    """
    frames = [ListedFrame(t.segment, t.frame_index) for t in capture.timesteps]
    cameras = {name: calibrated_camera(camera) for name, camera in capture.cameras.items()}
    surface, missing = RegisteredSurface(head), _missing_images(name, capture, spec.absent)
    with CaptureWriter(root, name, cameras, frames) as writer:
        for timestep in capture.timesteps:
            frame = timestep.frame_index
            vertices = surface.vertices(timestep.vertices)
            pose = compose(timestep.head_to_world, invert_rigid(HEAD_FRAME))
            points = vertices[surface.keypoints] @ pose[:, :3].T + pose[:, 3]
            inliers = _inliers(points, capture.cameras)
            triangulated = inliers[:, 1] >= 2
            writer.head_pose(frame, pose)
            writer.vertices(frame, vertices)
            writer.keypoints(frame, np.flatnonzero(triangulated), points[triangulated], inliers[triangulated])
            for view in capture.render_views(timestep):
                if (view.camera_id, frame) not in missing:
                    writer.image(view.camera_id, frame, view.rgb)
                    writer.parts(view.camera_id, frame, view.parts)
        writer.textures(
            [frame.frame for frame in frames], render_texture(head, capture.figure.surfaces[0], spec.uv_size)
        )
        write_truth(writer.truth, capture, head)


def calibrated_camera(camera: Camera) -> CalibratedCamera:
    """Return the calibration of a rig's camera for the full image, with distortion that the official loader ignores."""
    full = camera.resized(naming.FULL_WIDTH, naming.FULL_HEIGHT)
    return CalibratedCamera(full.K, DISTORTION, camera.world_to_camera)


class RegisteredSurface:
    """The open head's surface with the official number of points: vertices, then midpoints of its longest edges."""

    def __init__(self, head: HeadModel) -> None:
        template = head.template.numpy()
        edges = np.sort(head.triangles.numpy()[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), axis=1)
        edges = np.unique(edges, axis=0)
        length = np.linalg.norm(template[edges[:, 0]] - template[edges[:, 1]], axis=1)
        n = naming.N_VERTICES - len(template)
        self.edges = edges[np.sort(np.argsort(-length, kind="stable")[:n])]
        self.keypoints = spread_keypoints(template)

    def vertices(self, posed: NDArray[np.floating]) -> Array:
        """Return the points (7306, 3) in the written mesh's frame, given the head model's posed vertices (V, 3)."""
        both = np.concatenate([posed, posed[self.edges].mean(1)]).astype(np.float64)
        return both @ HEAD_FRAME[:, :3].T + HEAD_FRAME[:, 3]


def spread_keypoints(template: NDArray[np.floating]) -> NDArray[np.int64]:
    """Choose 274 vertices of the face by farthest-point sampling; return their indices in the template (V, 3)."""
    face = np.flatnonzero((template[:, 2] > -0.03) & (template[:, 1] > -0.13))
    points, chosen = template[face].astype(np.float64), [0]
    nearest = np.full(len(face), np.inf)
    while len(chosen) < naming.N_KEYPOINTS:
        nearest = np.minimum(nearest, np.linalg.norm(points - points[chosen[-1]], axis=1))
        chosen.append(int(np.argmax(nearest)))
    return face[np.array(chosen)]


def _inliers(points: Array, cameras: Mapping[str, Camera]) -> Array:
    """Return, for each of N points, the summed confidence and the number of cameras whose images contain it, (N, 2)."""
    count = np.zeros(len(points))
    for camera in cameras.values():
        pixels, depth = camera.project(points)
        count += ((pixels > 0) & (pixels < (camera.width, camera.height))).all(1) & (depth > 0)
    return np.stack([0.9 * count, count], 1)


def _missing_images(name: CaptureName, capture: RigCapture, share: float) -> set[tuple[str, int]]:
    """Draw the images that are listed but not written: at least one, unless the share is 0."""
    g = np.random.default_rng([seed_of(name.folder), 1])
    images = [(camera, timestep.frame_index) for camera in capture.cameras for timestep in capture.timesteps]
    n = min(max(1, round(share * len(images))), len(images) - 1) if share > 0 else 0
    return {images[int(i)] for i in g.choice(len(images), n, replace=False)}


def render_texture(head: HeadModel, skin: Surface, size: int) -> NDArray[np.uint8]:
    """Render a person's colours in the head model's UV map.

    Args:
        head: The open head.
        skin: Skin of the person, whose first vertices are the head's.
        size: Side of the texture, pixels.

    Returns:
        (size, size, 3) sRGB texture, black outside the triangles of the map.
    """
    number = {tuple(corners): i for i, corners in enumerate(head.triangles.tolist())}
    found = [(i, number[corners]) for i, t in enumerate(skin.triangles.tolist()) if (corners := tuple(t)) in number]
    drawn, own = np.array(found).T
    places = np.zeros((len(own), 3, 3), np.float32)
    places[..., :2] = head.uvs.numpy()[head.uv_triangles.numpy()[own]]
    embree = rtcore_scene.EmbreeScene()
    TriangleMesh(embree, places)
    x, y = np.meshgrid((np.arange(size) + 0.5) / size, 1 - (np.arange(size) + 0.5) / size)
    origins = np.stack([x, y, np.ones_like(x)], -1).reshape(-1, 3).astype(np.float32)
    down = np.ascontiguousarray(np.broadcast_to(np.array([0, 0, -1], np.float32), origins.shape))
    nearest = embree.run(origins, down, query="INTERSECT", output=True)
    hit = nearest["primID"] >= 0
    u, v = nearest["u"][hit], nearest["v"][hit]
    weights = np.stack([1 - u - v, u, v], 1)
    at = np.einsum("nk,nkc->nc", weights, skin.uv[drawn[nearest["primID"][hit]]])
    texture = np.zeros((size * size, 3), np.uint8)
    colours = sample_bilinear(skin.material.base_colour[..., :3].astype(np.float32), at[:, 0], at[:, 1])
    texture[hit] = (colours + 0.5).astype(np.uint8)
    return texture.reshape(size, size, 3)
