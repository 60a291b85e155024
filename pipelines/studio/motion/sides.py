"""Left and right of actions, and the actions that need or exclude each other."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
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
UNSIDED = (
    "browInnerUp",
    "cheekPuff",
    "jawForward",
    "jawLeft",
    "jawOpen",
    "jawRight",
    "mouthClose",
    "mouthFunnel",
    "mouthLeft",
    "mouthPucker",
    "mouthRight",
    "mouthRollLower",
    "mouthRollUpper",
    "mouthShrugLower",
    "mouthShrugUpper",
    "tongueOut",
)
"""The other actions of a face; those of gaze are in ``pipelines.studio.motion.gazing``."""
UNEVEN = 0.09
"""Standard deviation of a side's own part of the strength; what both sides share is larger."""
ONE_SIDED_SHARE = 0.12
"""Share of the draws in which one side is much weaker."""
CONTRARY = (("jawLeft", "jawRight"), ("mouthLeft", "mouthRight"))
"""Actions of which a face shows one at a time."""
TONGUE_NEEDS = 0.35
"""Opening of the jaw for a tongue that is fully out."""


def expand_sides(name: str) -> tuple[str, ...]:
    """Return the actions that a name means: both sides of a pair, or the action itself."""
    return (f"{name}Left", f"{name}Right") if name in SIDED else (name,)


def face_actions() -> frozenset[str]:
    """Return the 44 actions of a face without those of gaze."""
    return frozenset(side for name in (*SIDED, *UNSIDED) for side in expand_sides(name))


def draw_sides(g: np.random.Generator, name: str, strength: float) -> dict[str, float]:
    """Draw the strengths of an action's sides, which are correlated but not equal.

    Args:
        g: Random generator.
        name: Action, without a side if it is a pair.
        strength: Strength that both sides share.

    Returns:
        Action with its side → strength, at least 0.
    """
    sides = expand_sides(name)
    factors = 1 + g.normal(scale=UNEVEN, size=len(sides))
    if len(sides) > 1 and g.random() < ONE_SIDED_SHARE:
        factors[int(g.integers(2))] *= g.uniform(0, 0.6)
    return {side: max(strength * float(factor), 0.0) for side, factor in zip(sides, factors, strict=True)}


def reconcile(actions: Mapping[str, Floats]) -> dict[str, Floats]:
    """Return actions as a face can show them together, each from 0 to 1.

    Lips close only over an open jaw, a tongue comes out through one, puffed cheeks keep it shut, a shut eye is not
    wide, and jaw and mouth go to one side.

    Args:
        actions: Action → strengths (T,).
    """
    found = {name: np.clip(value, 0, 1) for name, value in actions.items()}
    for one, other in CONTRARY:
        if one in found and other in found:
            both = np.minimum(found[one], found[other])
            found[one], found[other] = found[one] - both, found[other] - both
    for side in ("Left", "Right"):
        if f"eyeWide{side}" in found and f"eyeBlink{side}" in found:
            found[f"eyeWide{side}"] = found[f"eyeWide{side}"] * (1 - found[f"eyeBlink{side}"])
    if "cheekPuff" in found and "jawOpen" in found:
        found["jawOpen"] = found["jawOpen"] * (1 - found["cheekPuff"])
    opened = found.get("jawOpen", np.float64(0))
    if "tongueOut" in found:
        opened = np.maximum(opened, TONGUE_NEEDS * found["tongueOut"])
    if "mouthClose" in found:
        opened = np.maximum(opened, found["mouthClose"])
    return found | {"jawOpen": np.asarray(opened)} if "tongueOut" in found or "mouthClose" in found else found


def combine(*parts: Mapping[str, Floats]) -> dict[str, Floats]:
    """Return the sum of actions over time, as ``reconcile`` allows it."""
    names = dict.fromkeys(name for part in parts for name in part)
    return reconcile({name: np.sum([part[name] for part in parts if name in part], axis=0) for name in names})
