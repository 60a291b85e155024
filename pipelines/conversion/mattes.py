"""The matte of an image whose empty room is known: the pixels that differ from it."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from pipelines.faces.matte import connected_to_face

Image = NDArray[np.uint8]

SHADE = (0.85, 1.05)
"""Brightness of the empty room relative to its image, within which it counts as empty: a shadow makes it darker."""
SURE_LEVELS = 12.0
"""Levels of change beyond the noise from which a pixel belongs fully to the person."""


def matte_from_empty_room(image: Image, empty: Image) -> Image:
    """Compute the matte of a head-centred image from its difference to the empty room.

    A pixel's change is its distance from the empty room's colour at any brightness of ``SHADE``; the noise is measured
    in the image's quietest tenth. Areas that are not connected to the face are left out, and holes are filled.

    Args:
        image: (H, W, 3).
        empty: The same crop of the empty room, (H, W, 3).

    Returns:
        (H, W), 255 is the person.
    """
    person, room = image.astype(np.float32), empty.astype(np.float32)
    over_channels = np.ones((1, 3), np.float32)
    shade = cv2.transform(person * room, over_channels) / np.maximum(cv2.transform(room * room, over_channels), 1)
    difference = cv2.split(cv2.absdiff(person, np.clip(shade, *SHADE)[..., None] * room))
    change = cv2.max(cv2.max(difference[0], difference[1]), difference[2])
    change = cv2.GaussianBlur(change, (0, 0), 0.8)
    low = 3 + 3 * float(np.percentile(change, 10))
    share = np.clip((change - low) / SURE_LEVELS, 0, 1).astype(np.float32)
    share = np.asarray(share * connected_to_face(share), np.float32)
    outlines, _ = cv2.findContours((share > 0.5).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    filled = cv2.drawContours(np.zeros(share.shape, np.uint8), outlines, -1, 1, cv2.FILLED)
    inside = cv2.erode(filled, np.ones((3, 3), np.uint8)) > 0
    return np.asarray(np.where(inside, 255, share * 255 + 0.5), np.uint8)
