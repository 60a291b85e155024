"""The classes of a segmentation, for example hair, body, lips and teeth."""

from __future__ import annotations

from enum import IntEnum


class Part(IntEnum):
    """Class of a pixel or of a triangle; the numbers are those of Ava-256."""

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
