"""Small pictures for the pages, as WebP or inline as data URIs."""

from __future__ import annotations

import base64
import logging
from collections.abc import Callable, Mapping
from typing import Any

import cv2
import numpy as np

from pipelines.media.image_codec import Picture, decode_picture, encode_webp

ReadBlob = Callable[[str, int, int], bytes]
"""(uri relative to the corpus, offset, length) to bytes: how the corpus's pictures are read."""

log = logging.getLogger(__name__)


class Thumbnails:
    """Reads pictures by their location in the corpus and makes data URIs of them."""

    def __init__(self, read_blob: ReadBlob, size: int = 104, quality: int = 82) -> None:
        self._read_blob = read_blob
        self._size = size
        self._quality = quality

    def uri(self, location: Mapping[str, Any] | None, matte: Mapping[str, Any] | None = None) -> str:
        """``picture`` as a ``data:image/webp`` URI; empty where there is no such picture."""
        data = self.picture(location, matte)
        return "data:image/webp;base64," + base64.b64encode(data).decode() if data else ""

    def picture(self, location: Mapping[str, Any] | None, matte: Mapping[str, Any] | None = None) -> bytes | None:
        """A WebP, at most ``size`` px on the longer side; None where there is no such picture.

        Args:
            location: ``uri``, ``offset``, ``length`` of an encoded picture (``mfhq.schema.BLOB_REF``).
            matte: likewise of its matte; what is not the person is then dimmed.
        """
        picture = self._decode(location, grey=False)
        if picture is None:
            return None
        scale = min(self._size / max(picture.shape[:2]), 1.0)
        picture = np.asarray(cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8)
        alpha = self._decode(matte, grey=True)
        if alpha is not None:
            share = cv2.resize(alpha, picture.shape[1::-1], interpolation=cv2.INTER_AREA)[..., None] / 255.0
            picture = np.rint(picture * (0.25 + 0.75 * share)).astype(np.uint8)
        return encode_webp(picture, self._quality)

    def _decode(self, location: Mapping[str, Any] | None, grey: bool) -> Picture | None:
        if not location or not location.get("uri") or not location["length"]:
            return None
        try:
            data = self._read_blob(location["uri"], location["offset"], location["length"])
            return decode_picture(data, grey=grey)
        except (OSError, ValueError) as error:
            log.warning("a picture is missing: %s at byte %s: %s", location["uri"], location["offset"], error)
            return None
