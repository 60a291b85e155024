"""The matte of a picture whose empty room is known: what changed against it."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from pipelines.faces.matte import hangs_together

Picture = NDArray[np.uint8]

SHADE = (0.85, 1.05)
"""How much darker (a shadow) and brighter the empty room may have become and still count as empty."""
SURE_LEVELS = 12.0
"""Levels of change beyond the noise that make a pixel wholly the person."""


def changed_matte(picture: Picture, empty: Picture) -> Picture:
    """(H, W) uint8, 255 is the person, of a head-centred picture and the same crop of the empty room (H, W, 3).

    A pixel's change is its distance from the empty room's colour at any brightness of ``SHADE``; the noise is measured
    in the picture's quietest tenth. What does not hang together with the face is left out, holes are filled.
    """
    seen, room = picture.astype(np.float32), empty.astype(np.float32)
    over_channels = np.ones((1, 3), np.float32)
    shade = cv2.transform(seen * room, over_channels) / np.maximum(cv2.transform(room * room, over_channels), 1)
    apart = cv2.split(cv2.absdiff(seen, np.clip(shade, *SHADE)[..., None] * room))
    change = cv2.max(cv2.max(apart[0], apart[1]), apart[2])
    change = cv2.GaussianBlur(change, (0, 0), 0.8)
    low = 3 + 3 * float(np.percentile(change, 10))
    share = np.clip((change - low) / SURE_LEVELS, 0, 1).astype(np.float32)
    share = np.asarray(share * hangs_together(share), np.float32)
    outlines, _ = cv2.findContours((share > 0.5).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    filled = cv2.drawContours(np.zeros(share.shape, np.uint8), outlines, -1, 1, cv2.FILLED)
    inside = cv2.erode(filled, np.ones((3, 3), np.uint8)) > 0
    return np.asarray(np.where(inside, 255, share * 255 + 0.5), np.uint8)
