"""The classes of a segmentation: hair, body, lips, teeth ..."""

from __future__ import annotations

from enum import IntEnum


class Part(IntEnum):
    """The class of an image's pixel or of a mesh's triangle, with the number that Ava-256 gives it."""

    BACKGROUND = 0
    HAIR = 1
    BODY = 2
    CHAIR = 3
    APPAREL = 4
    GLASSES = 5
    UPPER_LIP = 6
    LOWER_LIP = 7
    UPPER_TEETH = 8
    LOWER_TEETH = 9
    TONGUE = 10
