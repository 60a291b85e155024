"""Projected landmarks of a posed figure, and which of them an image shows."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from pipelines.media.cameras import Camera
from pipelines.studio.rendering.image import SurfaceTruth

TOLERANCE = 0.008
"""Distance behind the visible surface up to which a landmark counts as visible, metres."""


def project_landmarks(
    landmarks: NDArray[np.floating], camera: Camera, truth: SurfaceTruth
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Project landmarks, and compare their depths with the image's.

    Args:
        landmarks: (N, 3) points, world metres; NaN for points that the topology lacks.
        camera: The camera of the image.
        truth: The image's truth.

    Returns:
        (N, 2) pixels, NaN where a point is missing or behind the camera, and (N,) true for those that are visible.
    """
    pixels, depth = camera.project(landmarks)
    pixels[~(depth > 0)] = np.nan
    # a neighbour's depth, so that a point on the outline does not fall beside its own surface
    surface = cv2.dilate(truth.depth, np.ones((3, 3), np.uint8))
    column, row = (np.nan_to_num(np.floor(axis), nan=-1).astype(np.int64) for axis in pixels.T)
    inside = (column >= 0) & (column < camera.width) & (row >= 0) & (row < camera.height)
    visible = np.zeros(len(landmarks), bool)
    at = surface[row[inside], column[inside]]
    visible[inside] = (at > 0) & (depth[inside] <= at + TOLERANCE)
    return pixels.astype(np.float32), visible
