"""Encoding of images for the corpus, and reading of photographs that users provide.

All images that enter or leave this module are RGB; OpenCV's BGR is used only inside it.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pi_heif
import PIL.Image
import PIL.ImageOps

from mfhq.image_bytes import Image, decode_image

__all__ = ["Image", "ImageFileError", "decode_image", "encode_png", "encode_webp", "read_photograph", "read_with_alpha"]

WEBP_EFFORT = 1
"""libwebp's ``method``, 0 (fastest) to 6 (smallest)."""

PNG_EFFORT = 1
"""zlib's level, 1 (fastest) to 9 (smallest).

A 512-pixel matte takes 2.4 ms and 13.5 kB at level 1, and 4.4 ms and 10.3 kB at level 6. With one filter for all lines
(each line minus the one above) in place of a choice for each, it takes 0.6 ms and 13.6 kB.
"""


PHOTOGRAPH_FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "HEIF", "TIFF", "BMP", "GIF")
"""Formats of photographs, as Pillow names them. Others run programs (EPS) or hold several files."""

MAX_PHOTOGRAPH_PIXELS = 1 << 27
"""Largest number of pixels of a photograph: 16384 × 8192."""


class ImageFileError(ValueError):
    """Error for an image file that cannot be read; the message is one line that names the file."""


pi_heif.register_heif_opener()  # the format of phones' photographs; the package decodes and holds no encoder


def read_photograph(path: Path) -> Image:
    """Read an image file that a user provides, and turn it upright.

    The formats of ``PHOTOGRAPH_FORMATS`` are read, whatever the file's name, and the file's orientation is applied.
    16-bit grey levels lose their lower byte. Where alpha is 0 the image is white, whatever colour the file has there.

    Args:
        path: The image file.

    Returns:
        (H, W, 3) uint8 RGB, writable.

    Raises:
        ImageFileError: The file is missing, cannot be read, or is not an image.
    """
    return read_with_alpha(path)[0]


def read_with_alpha(path: Path) -> tuple[Image, Image | None]:
    """Read an image file as ``read_photograph`` does, with its alpha.

    Args:
        path: The image file.

    Returns:
        (H, W, 3) uint8 RGB, writable, and (H, W) uint8 alpha, 0 where nothing is known; None if the file has none.

    Raises:
        ImageFileError: The file is missing, cannot be read, or is not an image.
    """
    with _named(path), PIL.Image.open(path, formats=PHOTOGRAPH_FORMATS) as file:
        if file.width * file.height > MAX_PHOTOGRAPH_PIXELS:
            size = f"{file.width} x {file.height} pixels"
            raise ImageFileError(f"{path}: {size}; at most {MAX_PHOTOGRAPH_PIXELS} are read, make it smaller")
        upright = PIL.ImageOps.exif_transpose(file)
        if upright.mode.startswith("I;16"):  # Pillow would clip the levels at 255
            upright = PIL.Image.fromarray((np.asarray(upright) >> 8).astype(np.uint8))
        if not upright.has_transparency_data:
            return np.array(upright.convert("RGB"), np.uint8), None
        rgba = np.array(upright.convert("RGBA"), np.uint8)
    alpha = np.ascontiguousarray(rgba[:, :, 3])
    rgb = np.ascontiguousarray(rgba[:, :, :3])
    rgb[alpha == 0] = 255
    return rgb, alpha


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    """Turn every error that an image file causes into an ``ImageFileError`` that names it."""
    try:
        if path.exists() and not path.is_dir() and not path.is_file():
            raise ImageFileError(f"{path}: is a pipe, a socket or a device; name an image file")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PIL.Image.DecompressionBombWarning)  # the limit here is stricter
            yield
    except ImageFileError:
        raise
    except (OSError, ValueError, SyntaxError, PIL.Image.DecompressionBombError) as error:
        if isinstance(error, OSError) and error.strerror:  # from the file system: no such file, a folder, no permission
            raise ImageFileError(f"{path}: cannot be read ({error.strerror.lower()}); name an image file") from error
        raise ImageFileError(f"{path}: not an image that can be read; use JPEG, PNG or WebP") from error


def encode_webp(image: Image, quality: int = 95) -> bytes:
    """Encode an image as WebP.

    Pillow is used because its effort can be set. With ``WEBP_EFFORT`` a 512-pixel crop takes a third of the time that
    OpenCV takes with its fixed effort of 4, and the size differs by less than 2 % (three real faces).

    Args:
        image: (H, W, 3) RGB.
        quality: Quality from 1 to 100; above 100 the encoding is lossless.

    Raises:
        ValueError: The array is not (H, W, 3) of uint8.
    """
    _check_image(image)
    if image.ndim != 3:
        raise ValueError(f"image of shape {image.shape}: (H, W, 3) is needed for WebP")
    buffer = io.BytesIO()
    settings = {"quality": quality} if quality <= 100 else {"lossless": True}
    PIL.Image.fromarray(image).save(buffer, "WEBP", method=WEBP_EFFORT, **settings)
    return buffer.getvalue()


def encode_png(image: Image) -> bytes:
    """Encode an image as PNG.

    Args:
        image: (H, W, 3) RGB, or (H, W) grey.

    Raises:
        ValueError: The array is not (H, W) or (H, W, 3) of uint8.
    """
    _check_image(image)
    pixels = image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    settings = [cv2.IMWRITE_PNG_COMPRESSION, PNG_EFFORT, cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_UP]
    done, data = cv2.imencode(".png", pixels, settings)
    if not done:
        raise ValueError(f"image of shape {image.shape} cannot be written as PNG")
    return bytes(data)


def _check_image(image: Image) -> None:
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] != 3):
        raise ValueError(f"image of shape {image.shape} and type {image.dtype}: (H, W) or (H, W, 3) of uint8 is needed")
