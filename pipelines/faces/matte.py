"""Computation of the mattes of aligned crops with MediaPipe's selfie_segmentation model."""

from __future__ import annotations

from functools import cache
from typing import Self

import cv2
import numpy as np
import numpy.typing as npt

from pipelines.faces.litert import LiteModel
from pipelines.faces.weight_files import weight_path

FACE_DISC = (0.5, 0.55, 0.3)
"""Centre (x, y) and radius of the disc that holds the face of an aligned crop, as shares of the crop's side."""

MIN_CONNECTED = 0.1
"""Probability above which a pixel belongs to a part of the matte and connects it with its neighbours."""


class MatteModel:
    """The segmentation network, which runs at 256 pixels; parts not connected to the face in the middle are removed."""

    def __init__(self, model: LiteModel) -> None:
        self.model = model

    @classmethod
    def load(cls) -> Self:
        """Load the model from the cache.

        Raises:
            WeightsError: The weights cannot be fetched.
        """
        return cls(LiteModel(weight_path("selfie_segmentation")))

    def matte(self, crop: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """Compute the matte (H, W) of an aligned crop: 255 is the person, 0 is the background.

        Another person who touches the first one in the image is included in the matte.

        Args:
            crop: (H, W, 3) RGB.
        """
        height, width = crop.shape[:2]
        side = self.model.side
        shrink = height > side or width > side
        small = cv2.resize(crop, (side, side), interpolation=cv2.INTER_AREA if shrink else cv2.INTER_LINEAR)
        probability = self.model.run(np.asarray(small, np.uint8))[0].reshape(side, side)
        probability = probability * connected_to_face(probability)
        matte = cv2.resize(probability, (width, height), interpolation=cv2.INTER_LINEAR)
        return np.asarray(cv2.convertScaleAbs(matte, alpha=255), np.uint8)  # rounds, and clips at 255


def connected_to_face(probability: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
    """Mark every connected part of a matte that reaches into the face's disc.

    Args:
        probability: (S, S) probability that the pixel shows the person, 0 to 1.

    Returns:
        (S, S) mask, True inside these parts.
    """
    _, parts = cv2.connectedComponents((probability > MIN_CONNECTED).astype(np.uint8), connectivity=8)
    connected = np.zeros(parts.max() + 1, np.bool_)
    connected[parts[_face_disc(probability.shape[0])]] = True
    connected[0] = False
    return connected[parts]


@cache
def _face_disc(side: int) -> npt.NDArray[np.bool_]:
    """Return a mask (S, S), True inside the face's disc."""
    rows, columns = np.mgrid[:side, :side] / side
    return np.asarray((columns - FACE_DISC[0]) ** 2 + (rows - FACE_DISC[1]) ** 2 < FACE_DISC[2] ** 2)
