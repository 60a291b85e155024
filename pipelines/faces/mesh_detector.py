"""Detection of the 468-point face mesh in aligned crops with MediaPipe's face_landmark model."""

from __future__ import annotations

import math
from typing import Self

import numpy as np
import numpy.typing as npt

from pipelines.faces.align import Matrix, invert_transform, scale_of, transform_points, warp_crop
from pipelines.faces.litert import LiteModel
from pipelines.faces.weight_files import weight_path

N_POINTS = 468
"""Number of the mesh's points."""

EYE_CORNERS = (33, 263)
"""Indices of the outer eye corners: the image's left, the image's right."""

ROI_SCALE = 1.5
"""Factor by which the face's box, rotated so that the eyes are level, is enlarged for the model, as in MediaPipe."""

FACE_IN_CROP = (0.5, 0.62, 0.92)
"""Centre (x, y) and side of the first region, as shares of the crop; ``align.crop_transform`` puts the face there."""


class MeshDetector:
    """The mesh network, which runs twice: on the region where an aligned crop has its face, then on the found face."""

    def __init__(self, model: LiteModel) -> None:
        self.model = model

    @classmethod
    def load(cls) -> Self:
        """Load the model from the cache.

        Raises:
            WeightsError: The weights cannot be fetched.
        """
        return cls(LiteModel(weight_path("face_landmark")))

    def detect(self, crop: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.float32], float]:
        """Find the face mesh of an aligned crop.

        Args:
            crop: (H, W, 3) RGB.

        Returns:
            The mesh, (468, 3) float32, and the probability, 0 to 1, that the crop shows a face. x and y are pixels of
            the crop; z has the same unit, is smaller for nearer points, and is about 0 in the middle of the head.
            Points may lie outside the crop. If the probability is below 0.5, the mesh is not reliable.
        """
        height, width = crop.shape[:2]
        x, y, side = FACE_IN_CROP
        first, score = self._run_on_square(crop, (x * width, y * height), side * max(width, height), 0.0)
        if score < 0.5:
            return first, score
        return self._run_on_square(crop, *face_square(first))

    def _run_on_square(
        self, crop: npt.NDArray[np.uint8], centre: tuple[float, float], side: float, turn: float
    ) -> tuple[npt.NDArray[np.float32], float]:
        """Run the model on a square of the crop: centre and side in pixels, turned clockwise by ``turn`` radians."""
        size = self.model.side
        to_input = square_transform(centre, side, turn, size)
        points, logit = self.model.run(warp_crop(crop, to_input, size))
        mesh = points.reshape(N_POINTS, 3).astype(np.float64)
        xy = transform_points(invert_transform(to_input), mesh[:, :2])
        z = mesh[:, 2] / scale_of(to_input)
        return np.column_stack([xy, z]).astype(np.float32), 1 / (1 + math.exp(-float(logit.reshape(-1)[0])))


def square_transform(centre: tuple[float, float], side: float, turn: float, size: int) -> Matrix:
    """Compute the transform (2, 3) from a turned square of the image to an upright square of ``size`` pixels."""
    scale = size / side
    cosine, sine = math.cos(turn) * scale, math.sin(turn) * scale
    rotation = np.array([[cosine, sine], [-sine, cosine]])
    return np.column_stack([rotation, np.full(2, (size - 1) / 2) - rotation @ np.asarray(centre)])


def face_square(mesh: npt.NDArray[np.float32]) -> tuple[tuple[float, float], float, float]:
    """Return centre, side and turn (radians) of the square around a mesh; its upper edge is parallel to the eyes."""
    left, right = (mesh[i, :2].astype(np.float64) for i in EYE_CORNERS)
    turn = math.atan2(right[1] - left[1], right[0] - left[0])
    level = np.array([[math.cos(turn), math.sin(turn)], [-math.sin(turn), math.cos(turn)]])
    points = mesh[:, :2].astype(np.float64) @ level.T
    low, high = points.min(axis=0), points.max(axis=0)
    centre = level.T @ ((low + high) / 2)
    return (float(centre[0]), float(centre[1])), float((high - low).max()) * ROI_SCALE, turn
