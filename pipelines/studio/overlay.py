"""Meshes drawn over images, to show that calibration, poses and images belong together."""

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
"""RGB of the lines, and the fraction of a pixel (1 / ``FINE``) that is their width."""


def draw_mesh(image: Image, camera: Camera, vertices: NDArray[np.floating], triangles: NDArray[np.integer]) -> Image:
    """Draw the edges of a mesh's visible triangles over an image; only the mesh itself hides triangles.

    Args:
        image: (H, W, 3) RGB.
        camera: The image's camera.
        vertices: (V, 3) in the world of ``camera``, metres.
        triangles: (F, 3) counter-clockwise from outside.

    Returns:
        (H, W, 3) a new image.
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
    """Lay images of one size out in rows; the unused space of the last row is grey.

    Args:
        images: (H, W, 3) each, at least one.
        columns: Images a row.
    """
    blank = np.full_like(images[0], 128)
    rows = [list(images[i : i + columns]) for i in range(0, len(images), columns)]
    rows[-1] += [blank] * (columns - len(rows[-1]))
    return np.concatenate([np.concatenate(row, axis=1) for row in rows])
