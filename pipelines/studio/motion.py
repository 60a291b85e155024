"""Facial motion as strengths of named actions: random expressions, and speech, blinks and gaze over time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

EXPRESSIONS: dict[str, dict[str, float]] = {
    "smile": {"mouthSmile": 0.8, "cheekSquint": 0.5, "eyeSquint": 0.3},
    "grin": {"mouthSmile": 0.9, "jawOpen": 0.25, "cheekSquint": 0.6, "mouthUpperUp": 0.3},
    "laugh": {"mouthSmile": 1.0, "jawOpen": 0.6, "cheekSquint": 0.8, "eyeSquint": 0.6},
    "surprise": {"jawOpen": 0.7, "browInnerUp": 0.9, "browOuterUp": 0.9, "eyeWide": 0.8},
    "anger": {"browDown": 1.0, "noseSneer": 0.6, "mouthPress": 0.5, "eyeSquint": 0.4},
    "disgust": {"noseSneer": 1.0, "mouthUpperUp": 0.8, "browDown": 0.5, "mouthFrown": 0.3},
    "sadness": {"mouthFrown": 0.9, "browInnerUp": 0.9, "mouthShrugLower": 0.4},
    "pout": {"mouthPucker": 0.9, "mouthFunnel": 0.2},
    "puff": {"cheekPuff": 0.9, "mouthPress": 0.4},
    "wink": {"eyeBlinkLeft": 1.0, "cheekSquintLeft": 0.6, "mouthSmileLeft": 0.5},
    "closed": {"eyeBlink": 1.0},
    "ah": {"jawOpen": 0.75, "mouthLowerDown": 0.3},
    "oh": {"jawOpen": 0.45, "mouthFunnel": 0.8},
    "ee": {"jawOpen": 0.12, "mouthStretch": 0.7, "mouthSmile": 0.3},
    "skew": {"jawLeft": 0.9, "mouthLeft": 0.6},
    "roll": {"mouthRollLower": 0.8, "mouthRollUpper": 0.7},
}
"""Name of the expression → name of an action → its full strength; a name without a side means both sides."""
SIDED = frozenset(
    (
        "browDown",
        "browOuterUp",
        "cheekSquint",
        "eyeBlink",
        "eyeSquint",
        "eyeWide",
        "mouthDimple",
        "mouthFrown",
        "mouthLowerDown",
        "mouthPress",
        "mouthSmile",
        "mouthStretch",
        "mouthUpperUp",
        "noseSneer",
    )
)
"""Actions that exist as pairs, whose names end with Left and Right."""


def expand_sides(name: str) -> tuple[str, ...]:
    """Return the actions that a name means: both sides of a pair, or the action itself."""
    return (f"{name}Left", f"{name}Right") if name in SIDED else (name,)


def random_expression(g: np.random.Generator) -> tuple[str, dict[str, float]]:
    """Draw an expression: one of ``EXPRESSIONS`` mixed with a second one, slightly asymmetric, with a random gaze.

    Args:
        g: Random generator.

    Returns:
        Name of the stronger expression, and action → strength from 0 to 1.
    """
    names = list(EXPRESSIONS)
    first, second = g.choice(len(names), 2, replace=False)
    actions: dict[str, float] = {}
    for chosen, strength in ((first, g.uniform(0.5, 1.0)), (second, g.uniform(0.0, 0.4))):
        for name, full in EXPRESSIONS[names[chosen]].items():
            for action in expand_sides(name):
                actions[action] = actions.get(action, 0.0) + full * strength * g.uniform(0.85, 1.15)
    actions = {name: float(np.clip(value, 0, 1)) for name, value in actions.items()}
    return names[first], actions | gaze(float(g.normal(scale=0.35)), float(g.normal(scale=0.25)))


def gaze(across: float, up: float) -> dict[str, float]:
    """Return the strengths of the actions that turn both eyes.

    Args:
        across: Horizontal gaze: 1 is fully to the head's left, -1 fully to its right.
        up: Vertical gaze: 1 is fully up, -1 fully down.
    """
    left, right, high, low = (max(v, 0.0) for v in (across, -across, up, -up))
    return {
        "eyeLookOutLeft": left,
        "eyeLookInRight": left,
        "eyeLookInLeft": right,
        "eyeLookOutRight": right,
        "eyeLookUpLeft": high,
        "eyeLookUpRight": high,
        "eyeLookDownLeft": low,
        "eyeLookDownRight": low,
    }


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


def blinks(g: np.random.Generator, times: Floats, every: float = 3.0, closed: float = 0.11) -> Floats:
    """Draw blinks over time.

    Args:
        g: Random generator.
        times: (T,) times, seconds, ascending.
        every: Mean time between two blinks, seconds.
        closed: Width of the bell curve of a blink, seconds.

    Returns:
        (T,) strength of the blink of both eyes, 0 to 1.
    """
    strength = np.zeros_like(times)
    peak = float(times[0]) + g.uniform(0.3, every)
    while peak < times[-1] + closed:
        strength = np.maximum(strength, np.exp(-(((times - peak) / closed) ** 2) * 1.4))
        peak += g.uniform(0.6, 1.4) * every
    return strength


def speech(g: np.random.Generator, times: Floats) -> dict[str, Floats]:
    """Draw the actions of a person who talks: four to five syllables per second, with pauses from a slow envelope.

    Args:
        g: Random generator.
        times: (T,) times, seconds.

    Returns:
        Action → strengths (T,), 0 to 1.
    """
    voiced = 1 / (1 + np.exp(-6 * (smooth_noise(g, times, 1.6) + 0.4)))
    syllables = np.clip(0.5 + 0.5 * smooth_noise(g, times, 0.24), 0, 1)
    actions = {"jawOpen": 0.62 * voiced * syllables}
    for name, strength, period in (
        ("mouthFunnel", 0.55, 0.35),
        ("mouthPucker", 0.45, 0.5),
        ("mouthStretch", 0.5, 0.4),
        ("mouthLowerDown", 0.5, 0.3),
        ("mouthRollLower", 0.25, 0.5),
        ("mouthUpperUp", 0.3, 0.4),
        ("mouthPress", 0.2, 0.6),
    ):
        value = strength * voiced * np.clip(smooth_noise(g, times, period), 0, 1)
        actions |= dict.fromkeys(expand_sides(name), value)
    smile = np.clip(0.3 + 0.4 * smooth_noise(g, times, 4.0), 0, 0.8)
    brows = np.clip(smooth_noise(g, times, 2.0), 0, 1)
    actions |= {"mouthSmileLeft": 0.6 * smile, "mouthSmileRight": 0.55 * smile, "browInnerUp": 0.7 * brows}
    return actions | {"browOuterUpLeft": 0.6 * brows, "browOuterUpRight": 0.6 * brows}
