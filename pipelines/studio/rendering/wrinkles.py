"""Wrinkles that come and go with expressions: regions of a wrinkle map, and the strength of each in a pose."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

REGIONS: tuple[tuple[str, dict[str, float]], ...] = (
    ("none", {}),
    ("forehead", {"browInnerUp": 0.7, "browOuterUpLeft": 0.5, "browOuterUpRight": 0.5}),
    ("frown", {"browDownLeft": 0.6, "browDownRight": 0.6}),
    ("left eye", {"eyeSquintLeft": 0.6, "cheekSquintLeft": 0.6, "mouthSmileLeft": 0.5}),
    ("right eye", {"eyeSquintRight": 0.6, "cheekSquintRight": 0.6, "mouthSmileRight": 0.5}),
    ("left cheek", {"mouthSmileLeft": 0.8, "cheekSquintLeft": 0.3, "noseSneerLeft": 0.4}),
    ("right cheek", {"mouthSmileRight": 0.8, "cheekSquintRight": 0.3, "noseSneerRight": 0.4}),
)
"""Name of a region and weights of the actions that fold it; its place is its number in a wrinkle map."""
STEP = 32
"""Distance of the numbers of two regions in the blue channel of a wrinkle map."""


def region_strengths(actions: Mapping[str, float]) -> NDArray[np.float32]:
    """Return the strength (8,) of each region, 0 to 1; the last is unused.

    Args:
        actions: Named action → strength.
    """
    strengths = np.zeros(8, np.float32)
    for number, (_, weights) in enumerate(REGIONS):
        strengths[number] = min(1.0, sum(weight * actions.get(name, 0.0) for name, weight in weights.items()))
    return strengths
