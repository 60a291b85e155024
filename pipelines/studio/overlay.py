"""A mesh drawn over pictures: how calibration, poses and pictures that belong together look."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from pipelines.media.cameras import Camera
from pipelines.studio.mesh import CHANNELS, Mesh
from pipelines.studio.renderer import build_scene, cast

Picture = NDArray[np.uint8]
COLOUR, FINE = (120, 255, 235), 4
"""RGB of the lines, which are a ``FINE``-th of a pixel wide."""


def draw_mesh(
    picture: Picture, camera: Camera, vertices: NDArray[np.floating], triangles: NDArray[np.integer]
) -> Picture:
    """(H, W, 3) the picture with the edges of the triangles that the camera sees, were there nothing but the mesh.

    ``vertices`` (V, 3) are in the world of ``camera``, metres; ``triangles`` (F, 3) counter-clockwise from outside.
    """
    pixels, _ = camera.project(vertices)
    plain = np.zeros((len(triangles), 3, CHANNELS), np.float32)
    scene = build_scene(Mesh(vertices.astype(np.float32), triangles.astype(np.int64), plain, 1))
    seen = np.unique(cast(scene, camera, FINE).triangle)
    facing = triangles[seen[seen >= 0]]
    height, width = picture.shape[:2]
    lines = np.zeros((height * FINE, width * FINE), np.uint8)
    corners = np.round((pixels[facing] * FINE - 0.5) * 16).astype(np.int32)
    cv2.polylines(lines, list(corners), isClosed=True, color=255, thickness=1, lineType=cv2.LINE_8, shift=4)
    share = cv2.resize(lines, (width, height), interpolation=cv2.INTER_AREA)[..., None] / np.float32(255)
    return (picture * (1 - share) + share * np.array(COLOUR, np.float32) + 0.5).astype(np.uint8)


def tiled(pictures: Sequence[Picture], columns: int) -> Picture:
    """Pictures of one size side by side in rows, what is left over grey."""
    blank = np.full_like(pictures[0], 128)
    rows = [list(pictures[i : i + columns]) for i in range(0, len(pictures), columns)]
    rows[-1] += [blank] * (columns - len(rows[-1]))
    return np.concatenate([np.concatenate(row, axis=1) for row in rows])
