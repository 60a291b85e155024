"""Curves over time from which motion is put together. Each is a function of time, so frames may have any distance."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def smooth_noise(g: np.random.Generator, times: Floats, period: float) -> Floats:
    """Draw smooth noise over time with mean 0 and standard deviation about 1.

    Args:
        g: Random generator.
        times: (T,) times, seconds.
        period: Typical period of the noise, seconds.

    Returns:
        (T,) values.
    """
    rates = 2 * np.pi / period * g.uniform(0.4, 1.5, 6)
    return np.sin(times[:, None] * rates + g.uniform(0, 2 * np.pi, 6)).sum(1) / np.sqrt(3)


def smooth_step(x: Floats) -> Floats:
    """Return 0 up to x = 0, 1 from x = 1 on, and between them the curve of a movement of least jerk."""
    x = np.clip(x, 0, 1)
    return x**3 * (10 - 15 * x + 6 * x**2)


def swell(times: Floats, start: float, rise: float, hold: float, fall: float) -> Floats:
    """Return a movement (T,) from 0 to 1 and back to exactly 0.

    Args:
        times: (T,) times, seconds.
        start: Time at which it begins.
        rise: Duration of the way up.
        hold: Duration of 1.
        fall: Duration of the way down.
    """
    return smooth_step((times - start) / rise) * smooth_step((start + rise + hold + fall - times) / fall)


def steps(times: Floats, starts: Floats, values: Floats, durations: Floats) -> Floats:
    """Return a value over time that moves from each of K targets to the next.

    Args:
        times: (T,) times, seconds.
        starts: (K,) times at which the movements to the targets begin, ascending.
        values: (K, C) targets; the first holds from the beginning.
        durations: (K,) durations of the movements, seconds.

    Returns:
        (T, C) values.
    """
    changes = np.diff(values, axis=0)
    return values[0] + smooth_step((times[:, None] - starts[1:]) / durations[1:]) @ changes
