"""Drawing of meshes over images, to check that calibration, poses and images agree."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from pipelines.media.cameras import Camera
from pipelines.studio.mesh import CHANNELS, Mesh
from pipelines.studio.renderer import build_scene, cast_rays

Image = NDArray[np.uint8]
COLOUR, FINE = (120, 255, 235), 4
"""RGB colour of the lines, and the inverse of their width in pixels (the width is 1 / ``FINE``)."""


def draw_mesh(image: Image, camera: Camera, vertices: NDArray[np.floating], triangles: NDArray[np.integer]) -> Image:
    """Draw the edges of a mesh's visible triangles over an image; triangles are hidden only by the mesh itself.

    Args:
        image: (H, W, 3) RGB.
        camera: Camera of the image.
        vertices: (V, 3) positions in the world of ``camera``, metres.
        triangles: (F, 3) indices of vertices, counter-clockwise seen from outside.

    Returns:
        A new image (H, W, 3).
    """
    pixels, _ = camera.project(vertices)
    plain = np.zeros((len(triangles), 3, CHANNELS), np.float32)
    scene = build_scene(Mesh(vertices.astype(np.float32), triangles.astype(np.int64), plain, 1))
    hit = np.unique(cast_rays(scene, camera, FINE).triangle)
    visible = triangles[hit[hit >= 0]]
    height, width = image.shape[:2]
    lines = np.zeros((height * FINE, width * FINE), np.uint8)
    corners = np.round((pixels[visible] * FINE - 0.5) * 16).astype(np.int32)
    cv2.polylines(lines, list(corners), isClosed=True, color=255, thickness=1, lineType=cv2.LINE_8, shift=4)
    share = cv2.resize(lines, (width, height), interpolation=cv2.INTER_AREA)[..., None] / np.float32(255)
    return (image * (1 - share) + share * np.array(COLOUR, np.float32) + 0.5).astype(np.uint8)


def tile_images(images: Sequence[Image], columns: int) -> Image:
    """Arrange images of one size in rows; the unused space of the last row is grey.

    Args:
        images: At least one image (H, W, 3).
        columns: Number of images per row.
    """
    blank = np.full_like(images[0], 128)
    rows = [list(images[i : i + columns]) for i in range(0, len(images), columns)]
    rows[-1] += [blank] * (columns - len(rows[-1]))
    return np.concatenate([np.concatenate(row, axis=1) for row in rows])
