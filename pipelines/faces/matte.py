"""The matte of an aligned crop: how much of each pixel is the person (MediaPipe's selfie_segmentation model)."""

from __future__ import annotations

from functools import cache
from typing import Self

import cv2
import numpy as np
import numpy.typing as npt

from pipelines.faces.litert import LiteModel
from pipelines.faces.weight_files import weight_path

FACE = (0.5, 0.55, 0.3)
"""Centre (x, y) and radius, as shares of the crop, of where an aligned crop has its face."""

FAINT = 0.1
"""Below this probability a pixel joins nothing together."""


class MatteModel:
    """The network, run at 256 pixels; what does not hang together with the face in the middle is left out."""

    def __init__(self, model: LiteModel) -> None:
        self._model = model

    @classmethod
    def load(cls) -> Self:
        """The model from the cache; raises ``WeightsError`` where it cannot be had."""
        return cls(LiteModel(weight_path("selfie_segmentation")))

    def matte(self, crop: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """(H, W) uint8 for an aligned RGB crop (H, W, 3): 255 is the person, 0 is not.

        Who touches that person in the picture counts as the same.
        """
        height, width = crop.shape[:2]
        side = self._model.side
        shrink = height > side or width > side
        small = cv2.resize(crop, (side, side), interpolation=cv2.INTER_AREA if shrink else cv2.INTER_LINEAR)
        probability = self._model.run(np.asarray(small, np.uint8))[0].reshape(side, side)
        probability = probability * hangs_together(probability)
        matte = cv2.resize(probability, (width, height), interpolation=cv2.INTER_LINEAR)
        return np.asarray(np.clip(matte * 255 + 0.5, 0, 255), np.uint8)


def hangs_together(probability: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
    """(S, S) True for every part of the matte that reaches into the face's disc, for probabilities (S, S)."""
    _, parts = cv2.connectedComponents((probability > FAINT).astype(np.uint8), connectivity=8)
    joined = np.zeros(parts.max() + 1, np.bool_)
    joined[parts[_disc(probability.shape[0])]] = True
    joined[0] = False
    return joined[parts]


@cache
def _disc(side: int) -> npt.NDArray[np.bool_]:
    """(S, S) True inside the face's disc."""
    rows, columns = np.mgrid[:side, :side] / side
    return np.asarray((columns - FACE[0]) ** 2 + (rows - FACE[1]) ** 2 < FACE[2] ** 2)
