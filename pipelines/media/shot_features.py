"""What the shot finder looks at: a few numbers and a thumbnail of every frame."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

FRAME_SIZE = (64, 36)
"""Width and height to which every frame is decoded, whatever its shape."""

THUMB_SIZE = (16, 9)

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class ShotFeatures:
    """Of N frames; about 450 bytes a frame, so an hour takes 50 MB."""

    index: npt.NDArray[np.int64]
    """(N,) frame numbers, ascending; gaps where frames could not be decoded."""
    thumbs: npt.NDArray[np.uint8]
    """(N, 9, 16, 3) RGB."""
    difference: Floats
    """(N,) mean absolute difference to the frame before, 0 to 255, all channels; 0 for the first."""
    histogram: Floats
    """(N,) half the L1 distance of the 8 x 8 x 8 colour histogram to the frame before's, 0 to 1; 0 for the first."""
    luma_std: Floats
    """(N,) standard deviation of the luminance, grey levels: near 0 for a blank frame."""

    def __len__(self) -> int:
        return len(self.index)


def shot_features(frames: Iterable[tuple[int, npt.NDArray[np.uint8]]]) -> ShotFeatures:
    """Features of frames given one by one as (index, RGB (36, 64, 3) uint8); only two are held at a time."""
    index, thumbs, difference, histogram, spread = [], [], [], [], []
    before: npt.NDArray[np.uint8] | None = None
    counts_before = np.zeros(512, np.int64)
    for i, rgb in frames:
        counts = _colour_counts(rgb)
        if before is None:
            difference.append(0.0)
            histogram.append(0.0)
        else:
            difference.append(float(cv2.absdiff(rgb, before).mean()))
            histogram.append(float(np.abs(counts - counts_before).sum() / 2 / counts.sum()))
        index.append(i)
        thumbs.append(cv2.resize(rgb, THUMB_SIZE, interpolation=cv2.INTER_AREA))
        spread.append(float(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY).std()))
        before, counts_before = rgb, counts
    return ShotFeatures(
        np.asarray(index, np.int64),
        np.asarray(thumbs, np.uint8).reshape(-1, THUMB_SIZE[1], THUMB_SIZE[0], 3),
        np.asarray(difference, np.float32),
        np.asarray(histogram, np.float32),
        np.asarray(spread, np.float32),
    )


def _colour_counts(rgb: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    bins = (rgb >> 5).astype(np.int64) @ np.array([64, 8, 1])
    return np.bincount(bins.ravel(), minlength=512)
