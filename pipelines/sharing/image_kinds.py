"""File endings of encoded images, by their first bytes."""

from __future__ import annotations

_BEGINNINGS = {b"\x89PNG": "png", b"\xff\xd8\xff": "jpg", b"RIFF": "webp"}


def image_suffix(data: bytes) -> str:
    """Return the file ending of an encoded image, without the dot; ``bin`` for a format that the corpus never writes.

    Args:
        data: The encoded image.
    """
    return next((suffix for beginning, suffix in _BEGINNINGS.items() if data.startswith(beginning)), "bin")
