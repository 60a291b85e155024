"""The 52 named actions as mixtures of VALID's 78 expressions, which follow another set of muscles."""

from __future__ import annotations

from collections.abc import Mapping

Mixture = dict[str, float]
BOTH_SIDES: dict[str, Mixture] = {
    "browDown": {"browDown": 0.9, "outerBrowDown": 0.8},
    "browOuterUp": {"outerBrowUp": 1.3, "browUp": 0.25},
    "cheekSquint": {"lowLid": 0.7, "smileClose": 0.15},
    "eyeBlink": {"eyeClose": 1.0},
    "eyeLookDown": {"eyeClose": 0.3},
    "eyeLookIn": {},
    "eyeLookOut": {},
    "eyeLookUp": {"eyeOpen": 0.4},
    "eyeSquint": {"squint": 0.5, "lowLid": 0.3},
    "eyeWide": {"eyeOpen": 1.2},
    "mouthDimple": {"lipCorner": 1.2},
    "mouthFrown": {"mouthSad": 1.1},
    "mouthLowerDown": {"lipDown": 1.0},
    "mouthSmile": {"smileClose": 0.5, "smileOpen": 0.6},
    "mouthStretch": {"lipCorner": 1.0, "mouthSad": 0.4, "neckTension": 0.5},
    "mouthUpperUp": {"lipUp": 1.0},
    "noseSneer": {"disgust": 0.8, "nostril": 1.0, "browDown": 0.2},
}
"""Sided action → a side's expressions → weight; the side is put in front of the expression's name."""
WHOLE: dict[str, Mixture] = {
    "browInnerUp": {"RbrowUp": 0.7, "LbrowUp": 0.7, "Rsad": 0.3, "Lsad": 0.3},
    "cheekPuff": {"Rblow": 0.9, "Lblow": 0.9},
    "jawForward": {"JawFront": 1.0},
    "jawLeft": {"Ljaw": 1.3},
    "jawOpen": {"MouthOpen": 1.4},
    "jawRight": {"Rjaw": 1.3},
    "mouthClose": {"Chew": 1.0, "MouthOpen": -1.4},
    "mouthFunnel": {"UW_U": 0.8, "RlipUp": 0.35, "LlipUp": 0.35, "RlipDown": 0.5, "LlipDown": 0.5},
    "mouthLeft": {"LlipCorner": 0.8, "LsmileClose": 0.25, "RlipCorner": -0.8},
    "mouthPressLeft": {"MPB_Up": 0.5, "MPB_Down": 0.5, "LlipCorner": 0.2},
    "mouthPressRight": {"MPB_Up": 0.5, "MPB_Down": 0.5, "RlipCorner": 0.2},
    "mouthPucker": {"Kiss": 1.0},
    "mouthRight": {"RlipCorner": 0.8, "RsmileClose": 0.25, "LlipCorner": -0.8},
    "mouthRollLower": {"FV": 0.7, "MPB_Down": 0.6},
    "mouthRollUpper": {"MPB_Up": 1.4},
    "mouthShrugLower": {"Chin": 1.0},
    "mouthShrugUpper": {"Chin": 0.3, "RlipUp": 0.3, "LlipUp": 0.3},
    "tongueOut": {"tongue_OutMiddle": 0.9},
}
"""Action → expressions → weight."""
OUTER = {"outerBrowDown": ("RRbrowDown", "LLbrowDown"), "outerBrowUp": ("RRbrowUp", "LLbrowUp")}
"""Expressions of both sides whose names are irregular: the right, the left."""


def action_mixtures() -> dict[str, Mixture]:
    """Return named action → VALID's expressions → weight, for all 52 actions.

    Horizontal gaze has no expression, as only the eyes turn; vertical gaze takes the lids along.
    """
    mixtures = dict(WHOLE)
    for action, parts in BOTH_SIDES.items():
        for index, side in enumerate(("Right", "Left")):
            mixtures[f"{action}{side}"] = {_sided(name, index): weight for name, weight in parts.items()}
    return mixtures


def needed_expressions() -> frozenset[str]:
    """Return the names of the expressions of which actions are mixed."""
    return frozenset(name for parts in action_mixtures().values() for name in parts)


def mix_expressions(weights: Mapping[str, float]) -> Mixture:
    """Return expressions → weight for strengths of named actions.

    Args:
        weights: Action → strength.

    Raises:
        ValueError: An action has no such name.
    """
    mixtures, total = action_mixtures(), Mixture()
    for action, strength in weights.items():
        if action not in mixtures:
            raise ValueError(f"people of VALID have no action {action!r}; they have {sorted(mixtures)}")
        for name, weight in mixtures[action].items():
            total[name] = total.get(name, 0.0) + weight * strength
    return total


def _sided(name: str, index: int) -> str:
    return OUTER[name][index] if name in OUTER else f"{'RL'[index]}{name}"
