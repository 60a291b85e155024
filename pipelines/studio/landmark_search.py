"""Search for the points on a head model's surface that correspond to the 468-point face mesh.

No licensed landmark file is needed: the mesh detector runs on images of the template that are rendered from several
sides. Each detected point is mapped to the visible surface nearest to it in the image. The points whose positions agree
between the images are used.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from pipelines.media.cameras import Camera, aimed_camera
from pipelines.studio.appearance import random_appearance
from pipelines.studio.mesh import Mesh
from pipelines.studio.painting import paint
from pipelines.studio.renderer import Light, Lighting, Scene, build_scene, cast_rays, render_mesh
from pipelines.studio.studio_head import JAW, ORDER, make_studio_head

if TYPE_CHECKING:
    from ffavatar_model.head import HeadModel

Floats = NDArray[np.float64]
Detect = Callable[[NDArray[np.uint8]], NDArray[np.floating]]
"""A function from an RGB image (H, W, 3) to the face mesh (468, 3): x and y in pixels, z in the same unit."""
N_MESH = 468
"""Number of points of the face mesh."""
SIZE, SPAN = 288, 0.29
"""Side of an image in pixels, and its span at the head in metres; the image resembles an aligned crop."""
TARGET = np.array([0.0, 0.005, 0.0])
"""Point at which the cameras look, in the head's frame, metres."""
VIEWS = ((0.0, 0.0), (-0.26, 0.0), (0.26, 0.0), (0.0, 0.14), (0.0, -0.14), (-0.15, 0.08), (0.15, 0.08))
"""Yaw and pitch of the cameras, radians."""
LIGHTING = Lighting((Light((0.4, 0.5, 1.0), (0.6, 0.58, 0.55)), Light((-0.8, 0.2, 0.5), (0.25, 0.25, 0.28))))
"""Lighting of the images."""
JAW_OPEN = 0.28
"""Opening of the jaw, radians, for the detection of the mouth, because the lips touch at rest."""
AROUND_LIPS = (
    *(76, 62, 306, 292, 77, 90, 180, 85, 16, 315, 404, 320, 307, 96, 89, 179, 86, 15, 316, 403),
    *(319, 325, 184, 74, 73, 72, 11, 302, 303, 304, 408, 183, 42, 41, 38, 12, 268, 271, 272, 407),
)
"""Indices of the face mesh's points on the lips beside those of ``ffavatar_model.head.face_parts.LIPS``."""
MAX_SPREAD, REACH = 0.004, 0.006
"""Two limits, metres.

``MAX_SPREAD`` is the largest median distance of a point's positions in the views from their median. ``REACH`` is the
largest distance between a detected point and the visible surface.
"""
INNER = ("left_eye", "right_eye", "tongue", "mouth_interior")
"""Regions to which no landmark is bound, so that, for example, a point on an eyelid does not turn with the eyeball."""


@dataclass(frozen=True)
class LandmarkCorrespondences:
    """Correspondence of L of the 468 face-mesh points with points on a head model's triangles."""

    index: NDArray[np.int64]
    """(L,) indices of the face-mesh points, ascending."""
    triangles: NDArray[np.int64]
    """(L,) indices of the head model's triangles."""
    barycentric: NDArray[np.float32]
    """(L, 3) barycentric coordinates in the triangles."""
    spread: NDArray[np.float32]
    """(L,) median distance of a point's positions in the views from their median, metres."""


def find_landmarks(head: HeadModel, detect: Detect) -> LandmarkCorrespondences:
    """Find the face-mesh points on a head model (open or FLAME).

    A point is excluded if there is no surface near it in half of the views or more, or if its positions in the views
    spread by more than ``MAX_SPREAD``.

    Args:
        head: The head model. It is painted with a face if it has regions, otherwise in one colour.
        detect: The face-mesh detector.

    Returns:
        The correspondences.

    Raises:
        ValueError: Fewer than 100 points remain, usually because the detector finds no face in the renderings.
    """
    from ffavatar_model.head import pose_head_numpy
    from ffavatar_model.head.face_parts import LIPS

    rotations = np.zeros((2, 5, 3), np.float32)
    rotations[1, JAW, 0] = JAW_OPEN
    postures, _ = pose_head_numpy(head, np.zeros((2, 0)), np.zeros((2, 0)), rotations)
    painted, outer = _template_mesh(head)
    triangle, weights = np.full((len(VIEWS), N_MESH), -1, np.int64), np.zeros((len(VIEWS), N_MESH, 3), np.float32)
    mouth = np.array((*LIPS, *AROUND_LIPS))
    for jaw_open, posture in enumerate(postures):
        points = mouth if jaw_open else np.setdiff1d(np.arange(N_MESH), mouth)
        scene = build_scene(painted.posed(posture))
        skin = build_scene(Mesh(posture.astype(np.float32), painted.triangles[outer], painted.colours[outer], 1))
        for v, (yaw, pitch) in enumerate(VIEWS):
            camera = aimed_camera(yaw, pitch, distance=1.0, target=TARGET, span=SPAN, size=SIZE)
            image = render_mesh(scene, camera, LIGHTING, (0.35, 0.37, 0.4)).rgb
            pixels = np.asarray(detect(image), np.float64)[points, :2]
            triangle[v, points], weights[v, points] = _surface_at(skin, camera, pixels)
    hit = triangle >= 0
    triangle[hit] = np.flatnonzero(outer)[triangle[hit]]
    positions = (head.template.numpy()[painted.triangles[triangle]] * weights[..., None]).sum(2)
    positions[~hit] = np.nan
    frequent = hit.sum(0) > len(VIEWS) / 2
    median = np.nanmedian(np.where(frequent[:, None], positions, 0.0), axis=0)
    distance = np.linalg.norm(positions - median, axis=2)
    spread = np.where(frequent, np.nanmedian(np.where(frequent, distance, 0.0), axis=0), np.inf)
    index = np.flatnonzero(spread <= MAX_SPREAD)
    if len(index) < 100:
        raise ValueError(
            f"only {len(index)} of {N_MESH} face-mesh points found on head model {head.name!r}; 100 are needed"
        )
    # Use the view whose position is nearest to the median, because a mean of positions could lie on the other lip.
    best = np.nanargmin(distance[:, index], axis=0)
    return LandmarkCorrespondences(index, triangle[best, index], weights[best, index], spread[index].astype(np.float32))


def open_head_with_landmarks(cache: Path, load_detector: Callable[[], Detect]) -> HeadModel:
    """Return the open head with its landmarks, which are searched the first time and then stored in its file.

    Args:
        cache: Folder of the open head, which is built there if it is missing.
        load_detector: Function that returns the face-mesh detector; it is called only if the file has no landmarks.
    """
    from ffavatar_model.head import save_head, with_landmarks
    from ffavatar_model.head.open_head import build_open_head, open_head_path

    head = build_open_head(cache)
    if head.n_landmarks:
        return head
    landmarks = find_landmarks(head, load_detector())
    head = with_landmarks(head, landmarks.index, landmarks.triangles, landmarks.barycentric)
    save_head(head, open_head_path(cache))
    return head


def _template_mesh(head: HeadModel) -> tuple[Mesh, NDArray[np.bool_]]:
    """Return the template, painted if the model has regions, and a mask (F,) of the triangles of the outer skin."""
    template, triangles = head.template.numpy(), head.triangles.numpy()
    if not head.region_names:
        plain = np.broadcast_to(np.array([0.45, 0.30, 0.24, 0.1], np.float32), (len(triangles), 3, 4))
        return Mesh(template, triangles, plain, 1), np.ones(len(triangles), bool)
    appearance = replace(
        random_appearance("template"),
        skin=(0.82, 0.62, 0.50),
        lips=(0.72, 0.38, 0.36),
        lip_strength=0.8,
        hair=(0.14, 0.09, 0.06),
        hair_style="bald",
        brow_width=0.004,
        brow_strength=0.85,
        brow_shift=(0.0, 0.0, 0.0),
        brow_gap=0.0,
        lip_border=0.48,
        complexion=0.02,
        folds=0.0,
        wrinkles=0.0,
        bags=0.2,
        eye_shadow=0.0,
        liner=0.6,
        moles=0,
        beard=0.0,
        freckles=0,
        glasses=None,
        iris=(0.3, 0.2, 0.1),
    )
    regions = head.regions.numpy()
    lips = regions[:, head.region_names.index("lips")] > 0.5
    inner = regions[:, [head.region_names.index(name) for name in INNER]].max(1) > 0.5
    return Mesh(template, triangles, paint(make_studio_head(head), appearance), ORDER), ~(inner & ~lips)[triangles].any(
        1
    )


def _surface_at(skin: Scene, camera: Camera, pixels: Floats, samples: int = 2) -> tuple[NDArray[np.int64], NDArray]:
    """Return triangles (N,) and barycentric coordinates (N, 3) of the visible skin that is nearest to pixels (N, 2).

    The triangle is -1 if no skin is within ``REACH``. Skin that faces away from the camera (the back of the head, seen
    through an eye socket) is ignored.
    """
    hits = cast_rays(skin, camera, samples)
    corners = skin.mesh.vertices[skin.mesh.triangles]
    facing = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    towards = (facing * (camera.centre - corners[:, 0])).sum(1) > 0
    rows, columns = np.nonzero((hits.triangle >= 0) & towards[hits.triangle])
    visible = (np.stack([columns, rows], 1) + 0.5) / samples
    distance, nearest = cKDTree(visible).query(pixels)
    sample = rows[nearest], columns[nearest]
    u, v = hits.u[sample], hits.v[sample]
    near = distance * SPAN / SIZE <= REACH
    return np.where(near, hits.triangle[sample], -1), np.stack([1 - u - v, u, v], 1)
