"""Rendered captures in Ava-256's layout.

What differs from the official data: the mesh has the official number of vertices, but they are the open head's and the
midpoints of its longest edges; the 274 keypoints are fixed points of that mesh with no meaning of their own; the
texture is the person's colour in the open head's UV map, the same in every frame; there are no shoulders.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ava256 import naming
from ava256.camera_calibration import CalibratedCamera
from ava256.naming import CaptureName
from ava256.reader import ListedFrame
from ava256.writer import CaptureWriter, write_ids
from mfhq.ids import digest, seed_of
from pipelines.conversion.ava256_frames import HEAD_AXES
from pipelines.media.cameras import Camera, compose
from pipelines.studio.camera_rig import RigCapture, RigSpec, plan_rig
from pipelines.studio.mesh import sample_colours
from pipelines.studio.person import StudioPerson
from pipelines.studio.renderer import build_scene, encode_srgb
from pipelines.studio.studio_head import StudioHead
from pipelines.studio.truth import write_truth

Points = NDArray[np.float64]
SEGMENTS = ("EXP_neutral_peak", "EXP_free_face", "EXP_smile", "SEN_a_good_morrow", "EXP_cheek_blow", "EXP_eyes_closed")
"""Names of segments, in the order in which they are used."""
FRAME_STEP, FIRST_FRAME, FPS = 4, 1000, 30.0
"""Frame numbers of a release lie apart, and begin anywhere."""
DISTORTION = np.array([-0.073, 0.044, -0.0034, 0.0030])
"""Plausible coefficients (those of the example calibration in the data set's repository are like these)."""
SHIFT = np.array([0.004, -0.031, 0.052])
"""Where the head model's origin lies in the frame of the written mesh, metres: the official one is elsewhere, too."""


@dataclass(frozen=True, kw_only=True)
class Ava256Spec:
    """How captures are made."""

    n_cameras: int = 4
    frames: int = 6
    """Frames in all, shared out among ``segments``."""
    segments: tuple[str, ...] = SEGMENTS[:3]
    height: int = 1024
    """Pixels; the official ones are 1024 and 2048. The width follows."""
    absent: float = 0.02
    """Share of the pictures that are listed and not there."""
    uv_size: int = naming.UV_SIZE

    @property
    def width(self) -> int:
        """Pixels: 667 for 1024."""
        return round(naming.FULL_WIDTH * self.height / naming.FULL_HEIGHT)


def write_ava256(head: StudioHead, root: Path, n_identities: int, spec: Ava256Spec, seed: int = 0) -> Iterator[Path]:
    """Captures of ``n_identities`` people below ``root``, each yielded when it is whole; those there are left alone.

    Beside each capture lies its truth (``truth/``, see ``write_truth``), with poses of the head model's own frame.
    """
    names = []
    for number in range(n_identities):
        identity = digest(["studio", seed, number])
        names.append(capture_name(identity))
        if not (root / names[-1].folder).exists():
            write_capture(plan_capture(head, identity, spec, seed), root, names[-1], spec)
            write_ids(root, names)
        yield root / names[-1].folder


def capture_name(identity: str) -> CaptureName:
    """A name of the official form that belongs to a studio person."""
    g = np.random.default_rng([seed_of(identity), 256])
    letters = "".join(chr(65 + int(i)) for i in g.integers(0, 26, 3))
    date = f"2000{g.integers(1, 13):02d}{g.integers(1, 29):02d}"
    return CaptureName(date, f"{g.integers(8, 18):02d}{g.integers(0, 60):02d}", f"{letters}{g.integers(0, 1000):03d}")


def plan_capture(head: StudioHead, identity: str, spec: Ava256Spec, seed: int = 0) -> RigCapture:
    """The rig of a person: portrait pictures, a chair, numbers for names."""
    share, rest = divmod(spec.frames, len(spec.segments))
    segments = {name: share + (i < rest) for i, name in enumerate(spec.segments)}
    rig = RigSpec(n_cameras=spec.n_cameras, width=spec.width, height=spec.height, chair=True)
    names = tuple(f"4{i:05d}" for i in range(940, 940 + spec.n_cameras))
    return plan_rig(
        head, identity, rig, segments, seed, camera_names=names, fps=FPS, first_frame=FIRST_FRAME, frame_step=FRAME_STEP
    )


def write_capture(capture: RigCapture, root: Path, name: CaptureName, spec: Ava256Spec) -> None:
    """Render and write one capture."""
    frames = [ListedFrame(m.segment, m.frame_index) for m in capture.moments]
    cameras = {name: calibrated(camera) for name, camera in capture.cameras.items()}
    surface, missing = Registration(capture.person), _absent(name, capture, spec.absent)
    with CaptureWriter(root, name, cameras, frames) as out:
        for moment in capture.moments:
            vertices = surface.vertices(capture.vertices(moment))
            place = compose(moment.head_to_world, inverse(HEAD_FRAME))
            points = vertices[surface.keypoints] @ place[:, :3].T + place[:, 3]
            seen = _inliers(points, capture.cameras)
            enough = seen[:, 1] >= 2
            out.head_pose(moment.frame_index, place)
            out.vertices(moment.frame_index, vertices)
            out.keypoints(moment.frame_index, np.flatnonzero(enough), points[enough], seen[enough])
            for view in capture.render(moment):
                if (view.camera_id, moment.frame_index) not in missing:
                    out.image(view.camera_id, moment.frame_index, view.rgb)
                    out.parts(view.camera_id, moment.frame_index, view.parts)
        out.textures([frame.frame for frame in frames], texture(capture.person, spec.uv_size))
        write_truth(out.truth, capture)


HEAD_FRAME = np.concatenate([HEAD_AXES.T, SHIFT[:, None]], axis=1)
"""(3, 4) from the head model's frame to that of the written mesh."""


def inverse(rigid: Points) -> Points:
    """(3, 4) of the inverse of a rigid (3, 4)."""
    return np.concatenate([rigid[:, :3].T, -rigid[:, :3].T @ rigid[:, 3:]], axis=1)


def calibrated(camera: Camera) -> CalibratedCamera:
    """The calibration of a rig's camera: for the full picture, with coefficients that the loader leaves aside."""
    full = camera.resized(naming.FULL_WIDTH, naming.FULL_HEIGHT)
    return CalibratedCamera(full.K, DISTORTION, camera.world_to_camera)


class Registration:
    """The open head's surface with the official number of points: vertices, then midpoints of its longest edges."""

    def __init__(self, person: StudioPerson) -> None:
        head = person.head
        edges = np.sort(head.triangles[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), axis=1)
        edges = np.unique(edges, axis=0)
        length = np.linalg.norm(head.template[edges[:, 0]] - head.template[edges[:, 1]], axis=1)
        n = naming.N_VERTICES - len(head.template)
        self.edges = edges[np.sort(np.argsort(-length, kind="stable")[:n])]
        self.keypoints = _spread(head.template)

    def vertices(self, posed: NDArray[np.floating]) -> Points:
        """(7306, 3) in the written mesh's frame, of the head model's posed vertices (V, 3)."""
        both = np.concatenate([posed, posed[self.edges].mean(1)]).astype(np.float64)
        return both @ HEAD_FRAME[:, :3].T + HEAD_FRAME[:, 3]


def _spread(template: NDArray[np.floating]) -> NDArray[np.int64]:
    """(274,) vertices of the face, far apart from each other: each next one is the furthest from those before."""
    face = np.flatnonzero((template[:, 2] > -0.03) & (template[:, 1] > -0.13))
    points, chosen = template[face].astype(np.float64), [0]
    nearest = np.full(len(face), np.inf)
    while len(chosen) < naming.N_KEYPOINTS:
        nearest = np.minimum(nearest, np.linalg.norm(points - points[chosen[-1]], axis=1))
        chosen.append(int(np.argmax(nearest)))
    return face[np.array(chosen)]


def _inliers(points: Points, cameras: Mapping[str, Camera]) -> Points:
    """(N, 2) summed confidence and number of the cameras in whose pictures points (N, 3) fall."""
    seen = np.zeros(len(points))
    for camera in cameras.values():
        pixels, depth = camera.project(points)
        seen += ((pixels > 0) & (pixels < (camera.width, camera.height))).all(1) & (depth > 0)
    return np.stack([0.9 * seen, seen], 1)


def _absent(name: CaptureName, capture: RigCapture, share: float) -> set[tuple[str, int]]:
    """Pictures that are listed and not written: at least one, unless the share is nothing."""
    g = np.random.default_rng([seed_of(name.folder), 1])
    every = [(camera, moment.frame_index) for camera in capture.cameras for moment in capture.moments]
    n = min(max(1, round(share * len(every))), len(every) - 1) if share > 0 else 0
    return {every[int(i)] for i in g.choice(len(every), n, replace=False)}


def texture(person: StudioPerson, size: int) -> NDArray[np.uint8]:
    """(size, size, 3) sRGB: the person's colours in the head model's UV map, black where the map has nothing."""
    model = person.head.model
    flat = np.concatenate([model.uvs.numpy(), np.zeros((len(model.uvs), 1), np.float32)], axis=1)
    unwrapped = replace(person.surface, vertices=flat.astype(np.float32), triangles=model.uv_triangles.numpy())
    scene = build_scene(unwrapped)
    x, y = np.meshgrid((np.arange(size) + 0.5) / size, 1 - (np.arange(size) + 0.5) / size)
    origins = np.stack([x, y, np.ones_like(x)], -1).reshape(-1, 3).astype(np.float32)
    down = np.broadcast_to(np.array([0, 0, -1], np.float32), origins.shape)
    found = scene.embree.run(origins, np.ascontiguousarray(down), query="INTERSECT", output=True)
    hit = found["primID"] >= 0
    colours = np.zeros((size * size, 3), np.float32)
    triangles = found["primID"][hit].astype(np.int64)
    colours[hit] = sample_colours(unwrapped, triangles, found["u"][hit], found["v"][hit])[:, :3]
    return encode_srgb(colours).reshape(size, size, 3)
