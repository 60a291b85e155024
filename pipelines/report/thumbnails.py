"""Thumbnails of the corpus's images, as WebP files or as data URIs for a page."""

from __future__ import annotations

import base64
import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import cv2
import numpy as np

from pipelines.media.image_codec import Image, decode_image, encode_webp

ReadBlob = Callable[[str, int, int], bytes]
"""Function that reads an image of the corpus: (uri relative to the corpus, offset, length) → bytes."""

Location = Mapping[str, Any] | None
"""Location of an image, ``mfhq.schema.BLOB_REF``; None for no image."""

_THREADS = 4

log = logging.getLogger(__name__)


class Thumbnails:
    """A maker of thumbnails, which reads images by their location in the corpus."""

    def __init__(self, read_blob: ReadBlob, size: int = 104, quality: int = 82, most_bytes: int = 5 << 20) -> None:
        """Set up the maker without reading anything.

        Args:
            read_blob: Function that reads the bytes of an image.
            size: Longer side of a thumbnail, pixels; smaller images keep their size.
            quality: Quality of the WebP files, 1 to 100.
            most_bytes: Upper bound on the characters of all URIs; later thumbnails are left out.
        """
        self._read_blob = read_blob
        self._size = size
        self._quality = quality
        self._left_bytes = most_bytes
        self.left_out = 0
        """Number of thumbnails that are left out because the page would become too large."""

    def data_uris(self, locations: Sequence[Location], mattes: Sequence[Location] | None = None) -> list[str]:
        """Make thumbnails as ``data:image/webp`` URIs; the URI of an image that cannot be read is empty.

        Args:
            locations: Locations of the images, as for ``webp``.
            mattes: Locations of the images' mattes, as for ``webp``.
        """
        with ThreadPoolExecutor(_THREADS) as pool:
            found = list(pool.map(self.webp, locations, mattes or [None] * len(locations)))
        return [self._within_bounds(data) for data in found]

    def _within_bounds(self, data: bytes | None) -> str:
        uri = "data:image/webp;base64," + base64.b64encode(data).decode() if data else ""
        if len(uri) > self._left_bytes:
            self.left_out += 1
            return ""
        self._left_bytes -= len(uri)
        return uri

    def webp(self, location: Location, matte: Location = None) -> bytes | None:
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

    def _decode(self, location: Location, grey: bool) -> Image | None:
        if not location or not location.get("uri") or not location["length"]:
            return None
        try:
            data = self._read_blob(location["uri"], location["offset"], location["length"])
            return decode_image(data, grey=grey)
        except (OSError, ValueError) as error:
            log.warning("an image is missing: %s at byte %s: %s", location["uri"], location["offset"], error)
            return None
