"""Perceptual hashes of a frame: of the whole image, and of parts of it that a copy may have been cropped to.

A hash is a difference hash of 64 bits: each bit says which of two neighbouring areas is brighter. So the whole image
of a cropped copy has about the hash of a part of the original's image. A mirrored copy has another hash.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.uint8]
Hashes = npt.NDArray[np.uint64]

WINDOWS = (
    (0.0, 0.0, 1.0, 1.0),
    *((cut, cut, 1 - cut, 1 - cut) for cut in (0.05, 0.1, 0.15)),
    (0.15, 0.0, 1.0, 1.0),
    (0.0, 0.0, 0.85, 1.0),
    (0.0, 0.15, 1.0, 1.0),
    (0.0, 0.0, 1.0, 0.85),
)
"""Left, upper, right and lower edge of each hashed part, as shares of the image's sides; the first is the whole."""

_SIDE, _POINTS = 96, 4
_DARK = 24
"""Grey level below which all pixels of a row or a column at the border belong to a bar."""
_LEAST_STD = 4.0
"""Standard deviation of the grey levels below which a frame is blank, and its hash is noise."""


def hash_frame(rgb: Image) -> Hashes | None:
    """Hash the parts of a frame.

    Args:
        rgb: (H, W, 3) uint8 RGB. Its aspect ratio and black bars around the image do not matter.

    Returns:
        (8,) hashes, in the order of ``WINDOWS``; None for a blank frame.
    """
    points = cv2.resize(rgb, (_POINTS * _SIDE, _POINTS * _SIDE), interpolation=cv2.INTER_NEAREST)
    grey = cv2.cvtColor(cv2.resize(points, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY)
    if grey.std() < _LEAST_STD:
        return None
    image = _without_bars(np.asarray(grey, np.uint8))
    return np.array([_difference_hash(_cut(image, window)) for window in WINDOWS], np.uint64)


@dataclass
class FrameHashes:
    """Hashes of the sampled frames of a video, without the blank ones."""

    frames: list[int] = field(default_factory=list)
    times_s: list[float] = field(default_factory=list)
    hashes: list[Hashes] = field(default_factory=list)

    def add(self, frame: Any) -> None:
        """Hash the next frame (``frame_index``, ``time_s`` and ``rgb``)."""
        if (hashes := hash_frame(frame.rgb)) is not None:
            self.frames.append(frame.frame_index)
            self.times_s.append(frame.time_s)
            self.hashes.append(hashes)

    def between(self, start_frame: int, end_frame: int) -> dict[str, list[Any]]:
        """Return the fields ``mining.schemas.HASHES`` of the shot with these frames.

        Args:
            start_frame: First frame.
            end_frame: Last frame, plus one.
        """
        own = [n for n, frame in enumerate(self.frames) if start_frame <= frame < end_frame]
        signed = [hashed for n in own for hashed in self.hashes[n].view(np.int64).tolist()]
        return {"hash_times_s": [round(self.times_s[n], 3) for n in own], "hashes": signed}


def _without_bars(grey: Image) -> Image:
    """Cut off the black bars; a image that is dark nearly everywhere stays as it is."""
    rows, columns = (np.flatnonzero(grey.max(axis=axis) > _DARK) for axis in (1, 0))
    if min(len(rows), len(columns)) < _SIDE // 4:
        return grey
    return grey[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _cut(image: Image, window: tuple[float, float, float, float]) -> Image:
    height, width = image.shape
    x0, y0, x1, y1 = (round(share * side) for share, side in zip(window, (width, height) * 2, strict=True))
    return np.ascontiguousarray(image[y0:y1, x0:x1])


def _difference_hash(image: Image) -> int:
    areas = np.asarray(cv2.resize(image, (9, 8), interpolation=cv2.INTER_AREA), np.int16)
    return int.from_bytes(np.packbits(areas[:, 1:] > areas[:, :-1]).tobytes(), "big")
