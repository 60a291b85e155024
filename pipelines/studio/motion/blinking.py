"""Blinks over time: fast down, slower up, now and then not to the end, and not quite equal on both sides."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipelines.studio.motion.curves import swell

Floats = NDArray[np.float64]
FIRST_S = 0.3
"""Least time from the first frame to the first blink, seconds."""
CLOSING_S, SHUT_S, OPENING_S = 0.08, 0.03, 0.17
"""Durations of the parts of a blink, seconds."""
PARTIAL_SHARE = 0.15
"""Share of the blinks that do not shut the eye."""


def blinks(g: np.random.Generator, times: Floats, every: float = 3.0) -> Floats:
    """Draw blinks of both eyes over time, see ``blink_actions``.

    Returns:
        (T,) strength of the blink, 0 to 1.
    """
    return blink_actions(g, times, every)["eyeBlinkLeft"]


def blink_actions(
    g: np.random.Generator, times: Floats, every: float = 3.0, also: Floats | None = None
) -> dict[str, Floats]:
    """Draw blinks over time. A single frame has none.

    Args:
        g: Random generator.
        times: (T,) times, seconds, ascending.
        every: Mean time between two blinks, seconds.
        also: (J,) times of jumps of the gaze, half of which come with a blink.

    Returns:
        ``eyeBlinkLeft`` and ``eyeBlinkRight`` → strengths (T,), 0 to 1.
    """
    strengths = {name: np.zeros_like(times) for name in ("eyeBlinkLeft", "eyeBlinkRight")}
    for start in _starts(g, times, every, also):
        depth = g.uniform(0.4, 0.85) if g.random() < PARTIAL_SHARE else 1.0
        slow = np.exp(g.normal(scale=0.2))
        for name in strengths:
            lag, side = g.uniform(0, 0.012), min(depth * (1 - abs(g.normal(scale=0.04))), 1.0)
            curve = side * swell(times, start + lag, CLOSING_S * slow, SHUT_S, OPENING_S * slow)
            strengths[name] = np.maximum(strengths[name], curve)
    return strengths


def _starts(g: np.random.Generator, times: Floats, every: float, also: Floats | None) -> list[float]:
    found, start = [], float(times[0]) + g.uniform(FIRST_S, every)
    while start < times[-1]:
        found.append(start)
        start += g.uniform(0.6, 1.4) * every
    jumps = np.zeros(0) if also is None else also[g.random(len(also)) < 0.5]
    return found + [float(t) for t in jumps if times[0] + FIRST_S < t < times[-1]]
