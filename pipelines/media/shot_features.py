"""Features for the shot finder: three numbers and a thumbnail per frame."""

from __future__ import annotations

import io
from dataclasses import dataclass, fields
from typing import Self

import cv2
import numpy as np
import numpy.typing as npt

FRAME_SIZE = (64, 36)
"""(width, height) to which every frame is shrunk, regardless of its aspect ratio."""

POINTS_PER_AXIS = 4
"""Number of sampled points of the frame, along each axis, whose mean is one pixel of the shrunk frame.

The mean of all pixels would take as long as decoding a frame of 512 x 512 pixels, and would give the same cuts.
"""

THUMB_SIZE = (16, 9)
"""(width, height) of a thumbnail, pixels."""

Floats = npt.NDArray[np.float32]
Image = npt.NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class ShotFeatures:
    """Features of N frames, about 450 bytes each: an hour of video takes 50 MB."""

    index: npt.NDArray[np.int64]
    """(N,) frame indices, ascending; frames that could not be decoded are missing."""
    thumbs: Image
    """(N, 9, 16, 3) RGB thumbnails."""
    difference: Floats
    """(N,) mean absolute difference from the previous frame over all channels, 0 to 255; 0 for the first frame."""
    histogram: Floats
    """(N,) half the L1 distance between the 8 x 8 x 8 colour histograms of the frame and the previous one, 0 to 1.

    It is 0 for the first frame.
    """
    luma_std: Floats
    """(N,) standard deviation of the luminance, grey levels; it is near 0 for a blank frame."""

    def __len__(self) -> int:
        return len(self.index)

    @classmethod
    def empty(cls) -> Self:
        """Return an instance without frames."""
        return cls(*(np.empty(shape, kind) for shape, kind in _EMPTY))

    def to_bytes(self) -> bytes:
        """Serialise the features for another process; ``from_bytes`` reads them."""
        buffer = io.BytesIO()
        np.savez(buffer, **{f.name: getattr(self, f.name) for f in fields(self)})
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes | bytearray) -> Self:
        """Read the bytes that ``to_bytes`` wrote."""
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            return cls(**{f.name: arrays[f.name] for f in fields(cls)})


_EMPTY = (((0,), np.int64), ((0, 9, 16, 3), np.uint8), *3 * (((0,), np.float32),))


class ShotFeatureBuilder:
    """Builder of the features of frames that are added one by one; it keeps only the last shrunk frame."""

    def __init__(self) -> None:
        self.index: list[int] = []
        self.thumbs: list[Image] = []
        self.difference: list[float] = []
        self.histogram: list[float] = []
        self.luma_std: list[float] = []
        self._previous: Image | None = None
        self._counts = np.zeros(512, np.int64)

    def __len__(self) -> int:
        return len(self.index)

    def add(self, index: int, small: Image) -> None:
        """Add the next frame.

        Args:
            index: Index of the frame in the video.
            small: (36, 64, 3) uint8 RGB; the frame after ``shrink``.
        """
        counts = _colour_counts(small)
        previous = self._previous
        self.difference.append(0.0 if previous is None else cv2.norm(small, previous, cv2.NORM_L1) / small.size)
        recoloured = float(np.abs(counts - self._counts).sum() / 2 / counts.sum())
        self.histogram.append(0.0 if previous is None else recoloured)
        self.index.append(index)
        self.thumbs.append(np.asarray(cv2.resize(small, THUMB_SIZE, interpolation=cv2.INTER_AREA), np.uint8))
        _, spread = cv2.meanStdDev(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY))
        self.luma_std.append(float(spread[0, 0]))
        self._previous, self._counts = small, counts

    def features(self) -> ShotFeatures:
        """Return the features of all frames added so far."""
        return ShotFeatures(
            np.asarray(self.index, np.int64),
            np.asarray(self.thumbs, np.uint8).reshape(-1, THUMB_SIZE[1], THUMB_SIZE[0], 3),
            np.asarray(self.difference, np.float32),
            np.asarray(self.histogram, np.float32),
            np.asarray(self.luma_std, np.float32),
        )


def shrink(rgb: Image) -> Image:
    """Shrink an RGB frame to (36, 64, 3), regardless of its aspect ratio.

    Args:
        rgb: (H, W, 3) uint8 RGB.
    """
    width, height = FRAME_SIZE
    points = cv2.resize(rgb, (POINTS_PER_AXIS * width, POINTS_PER_AXIS * height), interpolation=cv2.INTER_NEAREST)
    return np.asarray(cv2.resize(points, FRAME_SIZE, interpolation=cv2.INTER_AREA), np.uint8)


def _colour_counts(rgb: Image) -> npt.NDArray[np.int64]:
    counts = cv2.calcHist([rgb], [0, 1, 2], None, [8, 8, 8], [0, 256] * 3)
    return counts.ravel().astype(np.int64)
