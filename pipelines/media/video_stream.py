"""The video stream of a container that is used, and the geometry that makes its frames upright with square pixels."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

SAR_LIMIT = 8
"""Largest ratio between the sides of a pixel; a container that states a larger one is wrong, and pixels are square."""


def select_stream(container: Any) -> Any:
    """Return the video stream with the largest frames; the first of equals.

    Images that are attached to the container (covers, thumbnails) are no video.

    Args:
        container: An ``av.container.InputContainer``.

    Returns:
        The stream; None if there is none.
    """
    from av.stream import Disposition

    images = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.still_image
    streams = [s for s in container.streams.video if s.codec_context is not None and not s.disposition & images]
    return max(streams, key=lambda s: (s.codec_context.width * s.codec_context.height, -s.index), default=None)


@dataclass(frozen=True, slots=True)
class Geometry:
    """The way from a stored frame to the upright one: stretch to square pixels, transpose, then flip."""

    pixel_ratio: Fraction = Fraction(1)
    """Width of a stored pixel over its height."""
    transposed: bool = False
    """True if rows and columns are exchanged."""
    flip_x: bool = False
    """True if, after the transposition, left and right are exchanged."""
    flip_y: bool = False
    """True if, after the transposition, top and bottom are exchanged."""

    @property
    def rotation_deg(self) -> int:
        """Anticlockwise rotation that is a part of the transform, degrees: 0, 90, 180 or 270; a mirror comes on top."""
        if self.transposed:
            return 90 if self.flip_y else 270
        return 180 if self.flip_y else 0

    def square_size(self, width: int, height: int) -> tuple[int, int]:
        """Return (width, height) of a stored frame after its shorter pixel side was stretched.

        The stretched side is rounded down to an even number.

        Args:
            width: Width of the stored frame, pixels.
            height: Height of the stored frame, pixels.
        """
        if self.pixel_ratio > 1:
            width = max(2, int(width * self.pixel_ratio) // 2 * 2)
        elif self.pixel_ratio < 1:
            height = max(2, int(height / self.pixel_ratio) // 2 * 2)
        return width, height

    def upright_size(self, width: int, height: int) -> tuple[int, int]:
        """Return (width, height) of the upright frame with square pixels.

        Args:
            width: Width of the stored frame, pixels.
            height: Height of the stored frame, pixels.
        """
        width, height = self.square_size(width, height)
        return (height, width) if self.transposed else (width, height)

    def turn(self, image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """Return the upright image of one with square pixels.

        Args:
            image: (H, W, 3).
        """
        if self.transposed:
            image = image.transpose(1, 0, 2)
        rows, columns = (slice(None, None, -1 if flip else 1) for flip in (self.flip_y, self.flip_x))
        return np.ascontiguousarray(image[rows, columns])


def frame_geometry(frame: Any, pixel_ratio: Fraction | None) -> Geometry:
    """Return the geometry of a frame, from its display matrix and its pixels' shape.

    Args:
        frame: A decoded ``av.VideoFrame``.
        pixel_ratio: The stream's sample aspect ratio; None or 0 if it is unknown.
    """
    ratio = Fraction(pixel_ratio) if pixel_ratio else Fraction(1)
    if not Fraction(1, SAR_LIMIT) <= ratio <= SAR_LIMIT:
        ratio = Fraction(1)
    for data in frame.side_data:
        if data.type.name == "DISPLAYMATRIX":
            return matrix_geometry(bytes(data), ratio)
    return Geometry(ratio)


def matrix_geometry(matrix: bytes, pixel_ratio: Fraction) -> Geometry:
    """Return the geometry that a display matrix states.

    The matrix (a, b, u, c, d, v, x, y, w) maps a stored position (p, q) to (a p + c q + x, b p + d q + y). It is taken
    for the nearest of the eight transforms that map the axes to the axes.

    Args:
        matrix: Nine 32-bit integers in the byte order of this machine, as FFmpeg holds them.
        pixel_ratio: Width of a stored pixel over its height.
    """
    a, b, _, c, d, _, *_ = struct.unpack("=9i", matrix[:36])
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return Geometry(pixel_ratio, False, a < 0, d < 0)
    return Geometry(pixel_ratio, True, c < 0, b < 0)
