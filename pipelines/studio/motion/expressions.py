"""Expressions of emotion and of faces that people pull, as combinations of actions."""

from __future__ import annotations

import numpy as np

from pipelines.studio.motion.gazing import gaze
from pipelines.studio.motion.sides import draw_sides, reconcile

EXPRESSIONS: dict[str, dict[str, float]] = {
    "smile": {"mouthSmile": 0.8, "cheekSquint": 0.5, "eyeSquint": 0.3},
    "grin": {"mouthSmile": 0.9, "jawOpen": 0.25, "cheekSquint": 0.6, "mouthUpperUp": 0.3},
    "laugh": {"mouthSmile": 1.0, "jawOpen": 0.6, "cheekSquint": 0.8, "eyeSquint": 0.6},
    "tight_smile": {"mouthSmile": 0.5, "mouthPress": 0.7, "mouthDimple": 0.6, "mouthRollUpper": 0.3},
    "surprise": {"jawOpen": 0.7, "browInnerUp": 0.9, "browOuterUp": 0.9, "eyeWide": 0.8},
    "fear": {"browInnerUp": 0.9, "browDown": 0.3, "eyeWide": 0.9, "mouthStretch": 0.8, "jawOpen": 0.25},
    "anger": {"browDown": 1.0, "noseSneer": 0.6, "mouthPress": 0.5, "eyeSquint": 0.4},
    "rage": {"browDown": 1.0, "noseSneer": 0.8, "jawOpen": 0.5, "mouthUpperUp": 0.6, "mouthLowerDown": 0.7},
    "disgust": {"noseSneer": 1.0, "mouthUpperUp": 0.8, "browDown": 0.5, "mouthFrown": 0.3},
    "contempt": {"mouthDimpleLeft": 0.9, "mouthSmileLeft": 0.4, "cheekSquintLeft": 0.3, "mouthLeft": 0.3},
    "sadness": {"mouthFrown": 0.9, "browInnerUp": 0.9, "mouthShrugLower": 0.4},
    "weeping": {"mouthFrown": 0.7, "browInnerUp": 0.8, "eyeSquint": 0.8, "mouthStretch": 0.5, "mouthShrugLower": 0.7},
    "doubt": {"browOuterUpRight": 1.0, "browDownLeft": 0.7, "mouthShrugUpper": 0.5, "mouthFrown": 0.4},
    "shrug": {"mouthShrugUpper": 0.8, "mouthShrugLower": 0.9, "mouthFrown": 0.6, "browInnerUp": 0.5},
    "thought": {"mouthPucker": 0.5, "mouthRight": 0.6, "browDown": 0.4, "eyeSquint": 0.3},
    "interest": {"browInnerUp": 0.6, "browOuterUp": 0.8, "eyeWide": 0.4, "jawForward": 0.3},
    "pout": {"mouthPucker": 0.9, "mouthFunnel": 0.2},
    "kiss": {"mouthPucker": 1.0, "mouthShrugUpper": 0.3, "eyeBlink": 0.4},
    "puff": {"cheekPuff": 0.9, "mouthPress": 0.4},
    "tongue": {"tongueOut": 0.9, "jawOpen": 0.5, "mouthLowerDown": 0.2},
    "wink": {"eyeBlinkLeft": 1.0, "cheekSquintLeft": 0.6, "mouthSmileLeft": 0.5},
    "closed": {"eyeBlink": 1.0},
    "peer": {"eyeSquint": 0.9, "browDown": 0.6, "noseSneer": 0.3, "cheekSquint": 0.4},
    "yawn": {"jawOpen": 1.0, "eyeBlink": 0.7, "browInnerUp": 0.5, "mouthFunnel": 0.3},
    "chew": {"jawOpen": 0.45, "mouthClose": 0.4, "jawRight": 0.3, "mouthPress": 0.3},
    "ah": {"jawOpen": 0.75, "mouthLowerDown": 0.3},
    "oh": {"jawOpen": 0.45, "mouthFunnel": 0.8},
    "ee": {"jawOpen": 0.12, "mouthStretch": 0.7, "mouthSmile": 0.3},
    "skew": {"jawLeft": 0.9, "mouthLeft": 0.6},
    "underbite": {"jawForward": 0.9, "mouthShrugLower": 0.4},
    "roll": {"mouthRollLower": 0.8, "mouthRollUpper": 0.7},
}
"""Name of the expression → name of an action → its full strength; a name without a side means both sides."""
MIRRORED_SHARE = 0.5
"""Share of the draws in which an expression's left and right are exchanged."""


def random_expression(g: np.random.Generator, least: float = 0.5) -> tuple[str, dict[str, float]]:
    """Draw an expression: one of ``EXPRESSIONS`` mixed with a second one, asymmetric, with a random gaze.

    Args:
        g: Random generator.
        least: Least strength of the stronger expression, 0 to 1.

    Returns:
        Name of the stronger expression, and action → strength from 0 to 1.
    """
    names = list(EXPRESSIONS)
    first, second = g.choice(len(names), 2, replace=False)
    actions: dict[str, float] = {}
    for chosen, strength in ((first, g.uniform(least, 1.0)), (second, g.uniform(0.0, 0.4))):
        for action, value in _draw_one(g, names[chosen], float(strength)).items():
            actions[action] = actions.get(action, 0.0) + value
    actions |= gaze(float(g.normal(scale=0.35)), float(g.normal(scale=0.25)))
    return names[first], to_numbers(actions)


def to_numbers(actions: dict[str, float]) -> dict[str, float]:
    """Return the actions of one image as a face can show them together, see ``reconcile``."""
    return {name: float(value) for name, value in reconcile({k: np.asarray(v) for k, v in actions.items()}).items()}


def _draw_one(g: np.random.Generator, name: str, strength: float) -> dict[str, float]:
    actions: dict[str, float] = {}
    mirrored = g.random() < MIRRORED_SHARE
    for action, full in EXPRESSIONS[name].items():
        sided = draw_sides(g, _mirror(action) if mirrored else action, full * strength)
        actions |= sided
    return actions


def _mirror(action: str) -> str:
    """Return the action of the other side; one without a side stays."""
    for one, other in (("Left", "Right"), ("Right", "Left")):
        if action.endswith(one):
            return action.removesuffix(one) + other
    return action
