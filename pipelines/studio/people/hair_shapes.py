"""Shapes of hair: a fringe that leaves the eyes free, and long hair that lies on the shoulders."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipelines.studio.people.shoulders import turn_shoulders

Floats = NDArray[np.float32]
FACE_HALF, FACE_EDGE = 0.045, 0.072
"""Distances from the middle of the face up to which a fringe is lifted fully, and from which it stays, metres."""
FRONT = (-0.03, 0.0)
"""Depths between which hair counts more and more as a fringe, metres."""
BROW, FOREHEAD, CHIN = 0.030, 0.075, -0.10
"""Heights: the lowest place of a lifted fringe, the place above which it stays, and its lowest place before, metres."""
HANGS, LIES = -0.09, -0.20
"""Heights between which hair follows the shoulders more and more, metres."""


def part_fringe(hair: Floats) -> Floats:
    """Return vertices (P, 3) of hair whose fringe ends above the brows.

    Hair before the face between chin and forehead is pressed together to the height of the forehead. Hair at the sides
    stays, so that the fringe is swept to them.

    Args:
        hair: (P, 3) vertices at rest in the head's frame, metres.
    """
    x, y, z = hair.T
    weight = _smooth((FACE_EDGE - np.abs(x)) / (FACE_EDGE - FACE_HALF)) * _smooth(
        (z - FRONT[0]) / (FRONT[1] - FRONT[0])
    )
    place = ((y - CHIN) / (FOREHEAD - CHIN)).clip(0, 1)
    lifted = np.where(y < FOREHEAD, BROW + place * (FOREHEAD - BROW), y)
    out = hair.copy()
    out[:, 1] += weight * (lifted - y).clip(0)
    return out


def hang_hair(rest: Floats, neck: tuple[float, float, float]) -> Floats:
    """Return vertices (P, 3) of hair whose long parts stay on the shoulders when the head turns.

    Args:
        rest: (P, 3) vertices at rest in the head's frame, metres.
        neck: Axis-angle of the head against the shoulders, radians.
    """
    return turn_shoulders(rest, _smooth((HANGS - rest[:, 1]) / (HANGS - LIES)).astype(np.float32), neck)


def _smooth(share: Floats) -> Floats:
    t = share.clip(0, 1)
    return t * t * (3 - 2 * t)
