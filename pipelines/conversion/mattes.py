"""Matte of an image computed from an image of the empty room: the pixels that differ between both."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from pipelines.faces.matte import connected_to_face

Image = NDArray[np.uint8]

SHADE = (0.85, 1.05)
"""Range of brightness, relative to the image of the empty room, in which a pixel still counts as the room.

A shadow makes the room darker.
"""
SURE_LEVELS = 12.0
"""Number of levels above the noise at which a changed pixel belongs fully to the person."""


def matte_from_empty_room(image: Image, empty: Image) -> Image:
    """Compute the matte of a head-centred image from its difference from the empty room.

    The change of a pixel is its smallest distance from the empty room's colour at the brightnesses in ``SHADE``. The
    noise is estimated from the 10th percentile of the changes. Areas that are not connected to the face are removed,
    and holes are filled.

    Args:
        image: (H, W, 3) RGB crop.
        empty: (H, W, 3) the same crop of the empty room.

    Returns:
        (H, W) matte, 255 is the person.
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
