"""Reader and writer of YUV4MPEG2 (``y4m`` in ffmpeg): raw frames in a pipe, with a header of frame size and rate."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import IO, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.uint8]

MAGIC = b"YUV4MPEG2"
MAX_LINE, MAX_SIDE = 1024, 16384
CHROMA = {"420": (2, 2), "422": (2, 1), "444": (1, 1), "mono": (0, 0)}
"""Chroma layouts by name: the numbers of pixels (across, down) that share a chroma sample; (0, 0) for none."""
WAY_OUT = "write one with: ffmpeg -i VIDEO -pix_fmt yuv420p -f yuv4mpegpipe -"

_KR, _KB = 0.299, 0.114
"""Luma weights of red and blue (ITU-R BT.601), the default of y4m."""


class StreamHeader(NamedTuple):
    """Contents of a stream's first line."""

    width: int
    """Pixels across of a frame."""
    height: int
    """Pixels down of a frame."""
    fps: float
    """Frames per second."""
    chroma: tuple[int, int]
    """Chroma layout, a value of ``CHROMA``."""
    full_range: bool
    """True if samples use 0 to 255; False for limited range (luma 16 to 235, chroma 16 to 240)."""


def read_stream_header(stream: IO[bytes]) -> StreamHeader:
    """Read the first line of a stream.

    Raises:
        ValueError: The stream is not y4m with 8 bits per sample.
    """
    line = stream.readline(MAX_LINE)
    words = line.rstrip(b"\n").decode("ascii", "replace").split(" ")
    if words[0] != MAGIC.decode() or not line.endswith(b"\n"):
        raise ValueError(f"--driver -: standard input is no YUV4MPEG2 stream of raw frames; {WAY_OUT}")
    values = {word[0]: word[1:] for word in words[1:] if word and word[0] != "X"}
    try:
        width, height = int(values["W"]), int(values["H"])
        fps = float(Fraction(values.get("F", "25:1").replace(":", "/")))
    except (KeyError, ValueError, ZeroDivisionError):
        width, height, fps = 0, 0, 0.0
    name = values.get("C", "420")
    family = name.removesuffix("jpeg").removesuffix("mpeg2").removesuffix("paldv")
    if not (0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE and fps > 0 and family in CHROMA):
        parameters = " ".join(words[1:])[:80]
        raise ValueError(
            f"--driver -: frames of {parameters!r} cannot be read (8 bits, 420, 422, 444 or mono); {WAY_OUT}"
        )
    return StreamHeader(width, height, fps, CHROMA[family], "XCOLORRANGE=FULL" in words)


def read_frames(stream: IO[bytes], header: StreamHeader) -> Iterator[Image]:
    """Yield the frames of a stream, (H, W, 3) RGB.

    Args:
        stream: The stream, positioned after its header.
        header: The header, from ``read_stream_header``.

    Yields:
        One frame at a time.

    Raises:
        ValueError: The stream is damaged, or ends within a frame.
    """
    width, height, (across, down) = header.width, header.height, header.chroma
    cw, ch = (-(-width // across), -(-height // down)) if across else (0, 0)
    matrix = _to_rgb(header.full_range)
    while line := stream.readline(MAX_LINE):
        if not line.startswith(b"FRAME"):
            raise ValueError(f"--driver -: {line[:20]!r} where a frame begins; the stream is damaged")
        planes = [_read_plane(stream, height, width), *(_read_plane(stream, ch, cw) for _ in range(2 if across else 0))]
        chroma = [
            plane if plane.shape == (height, width) else cv2.resize(plane, (width, height)) for plane in planes[1:]
        ] or [np.full((height, width), 128, np.uint8)] * 2
        yield np.asarray(cv2.transform(np.stack([planes[0], *chroma], -1), matrix), np.uint8)


def write_stream_header(stream: IO[bytes], width: int, height: int, fps: float) -> None:
    """Write the header of a stream of 4:4:4 frames in full range.

    Args:
        stream: The stream.
        width: Width of the frames, pixels.
        height: Height of the frames, pixels.
        fps: Frames per second.
    """
    rate = Fraction(fps).limit_denominator(1001)
    line = f"{MAGIC.decode()} W{width} H{height} F{rate.numerator}:{rate.denominator} Ip A1:1 C444 XCOLORRANGE=FULL\n"
    stream.write(line.encode())


def write_frame(stream: IO[bytes], rgb: Image) -> None:
    """Write one (H, W, 3) RGB frame, and flush the stream."""
    yuv = np.asarray(cv2.transform(rgb, _from_rgb()), np.uint8)
    stream.write(b"FRAME\n" + yuv.transpose(2, 0, 1).tobytes())
    stream.flush()


def _read_plane(stream: IO[bytes], height: int, width: int) -> Image:
    data = stream.read(height * width)
    if len(data) != height * width:
        raise ValueError("--driver -: the stream ends within a frame")
    return np.frombuffer(data, np.uint8).reshape(height, width)


def _from_rgb() -> npt.NDArray[np.float64]:
    """Return the (3, 4) matrix from RGB to full-range Y'CbCr."""
    luma = np.array([_KR, 1 - _KR - _KB, _KB])
    blue = (np.array([0, 0, 1]) - luma) / (2 * (1 - _KB))
    red = (np.array([1, 0, 0]) - luma) / (2 * (1 - _KR))
    return np.column_stack([np.stack([luma, blue, red]), [0, 128, 128]])


def _to_rgb(full_range: bool) -> npt.NDArray[np.float64]:
    """Return the (3, 4) matrix from Y'CbCr to RGB; in limited range luma is 16 to 235 and chroma 16 to 240."""
    forward = _from_rgb()
    scale = np.eye(3) if full_range else np.diag([219 / 255, 224 / 255, 224 / 255])
    linear, offset = scale @ forward[:, :3], np.array([0 if full_range else 16, 128, 128])
    inverse = np.linalg.inv(linear)
    return np.column_stack([inverse, -inverse @ offset])
