"""Thumbnails of the corpus's images, as WebP files or as data URIs for a page."""

from __future__ import annotations

import base64
import logging
from collections.abc import Callable, Mapping
from typing import Any

import cv2
import numpy as np

from pipelines.media.image_codec import Image, decode_image, encode_webp

ReadBlob = Callable[[str, int, int], bytes]
"""Function that reads an image of the corpus: (uri relative to the corpus, offset, length) → bytes."""

log = logging.getLogger(__name__)


class Thumbnails:
    """A maker of thumbnails, which reads images by their location in the corpus."""

    def __init__(self, read_blob: ReadBlob, size: int = 104, quality: int = 82) -> None:
        """Set up the maker without reading anything.

        Args:
            read_blob: Function that reads the bytes of an image.
            size: Longer side of a thumbnail, pixels; smaller images keep their size.
            quality: Quality of the WebP files, 1 to 100.
        """
        self._read_blob = read_blob
        self._size = size
        self._quality = quality

    def data_uri(self, location: Mapping[str, Any] | None, matte: Mapping[str, Any] | None = None) -> str:
        """Make a thumbnail as a ``data:image/webp`` URI; empty if the image cannot be read.

        Args:
            location: Location of the image, as for ``webp``.
            matte: Location of the image's matte, as for ``webp``.
        """
        data = self.webp(location, matte)
        return "data:image/webp;base64," + base64.b64encode(data).decode() if data else ""

    def webp(self, location: Mapping[str, Any] | None, matte: Mapping[str, Any] | None = None) -> bytes | None:
        """Make a thumbnail with at most ``size`` pixels on the longer side.

        Args:
            location: ``uri``, ``offset`` and ``length`` of an encoded image (``mfhq.schema.BLOB_REF``).
            matte: The same of the image's matte, by which everything except the person is dimmed; None for no dimming.

        Returns:
            Bytes of a WebP file; None if the image cannot be read.
        """
        image = self._decode(location, grey=False)
        if image is None:
            return None
        scale = min(self._size / max(image.shape[:2]), 1.0)
        image = np.asarray(cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8)
        alpha = self._decode(matte, grey=True)
        if alpha is not None:
            share = cv2.resize(alpha, image.shape[1::-1], interpolation=cv2.INTER_AREA)[..., None] / 255.0
            image = np.rint(image * (0.25 + 0.75 * share)).astype(np.uint8)
        return encode_webp(image, self._quality)

    def _decode(self, location: Mapping[str, Any] | None, grey: bool) -> Image | None:
        if not location or not location.get("uri") or not location["length"]:
            return None
        try:
            data = self._read_blob(location["uri"], location["offset"], location["length"])
            return decode_image(data, grey=grey)
        except (OSError, ValueError) as error:
            log.warning("an image is missing: %s at byte %s: %s", location["uri"], location["offset"], error)
            return None
