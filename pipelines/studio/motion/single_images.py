"""Actions of single images: speech, emotions, and single actions and pairs, so that each is seen often enough."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipelines.studio.motion.expressions import random_expression, to_numbers
from pipelines.studio.motion.gazing import gaze_actions, random_gaze, without_gaze
from pipelines.studio.motion.sides import SIDED, draw_sides, expand_sides
from pipelines.studio.motion.speaking import speech

REST_SHARE, SPEECH_SHARE, EXPRESSION_SHARE = 0.1, 0.22, 0.26
"""Shares of images of a face nearly at rest, of speech and of an expression; the others show a few single actions."""
COUNTS = (0.3, 0.35, 0.2, 0.15)
"""Shares of the images with one, two, three and four single actions."""
ONE_SIDE_SHARE = 0.3
"""Share of the draws of a pair in which one side acts alone."""
BLINK_SHARE = 0.12
"""Share of all images with eyes that are shut, or about to be."""
SELDOM = {
    "cheekPuff": 1.4,
    "jawForward": 1.4,
    "jawLeft": 1.4,
    "jawRight": 1.4,
    "mouthClose": 1.5,
    "mouthDimple": 1.5,
    "mouthLeft": 1.5,
    "mouthRight": 1.5,
    "tongueOut": 1.5,
}
"""Action → weight among single actions; those that neither speech nor emotion show are drawn more often."""


def random_actions(g: np.random.Generator, action_names: Sequence[str]) -> dict[str, float]:
    """Draw the actions of one image: rest, speech, an expression, or single actions; the gaze is ``random_gaze``'s.

    Args:
        g: Random generator.
        action_names: Actions that the head has; others are not drawn.

    Returns:
        Action → strength, 0 to 1, without those of gaze.
    """
    kind, known = g.random(), frozenset(action_names)
    if kind < REST_SHARE:
        actions = {name: 0.15 * value for name, value in random_expression(g)[1].items()}
    elif kind < REST_SHARE + SPEECH_SHARE:
        actions = {name: float(value[0]) for name, value in speech(g, np.zeros(1)).items()}
    elif kind < REST_SHARE + SPEECH_SHARE + EXPRESSION_SHARE:
        actions = random_expression(g, least=0.15)[1]
    else:
        actions = single_actions(g, known)
    if g.random() < BLINK_SHARE:
        actions |= draw_sides(g, "eyeBlink", float(g.uniform(0.2, 1.05)))
    possible = to_numbers(without_gaze(actions))
    return {name: value for name, value in possible.items() if name in known}


def single_actions(g: np.random.Generator, known: frozenset[str]) -> dict[str, float]:
    """Draw one to four actions at strengths from slight to full; pairs act on both sides or on one.

    Args:
        g: Random generator.
        known: Actions to draw from; those of gaze are left out.
    """
    pairs = sorted(name for name in SIDED if known.issuperset(expand_sides(name)))
    sides = {side for name in pairs for side in expand_sides(name)}
    singles = sorted(name for name in known - sides if not name.startswith("eyeLook"))
    names = [*pairs, *singles]
    weights = np.array([SELDOM.get(name, 1.0) for name in names])
    count = min(1 + int(g.choice(len(COUNTS), p=COUNTS)), len(names))
    actions: dict[str, float] = {}
    for name in g.choice(names, count, replace=False, p=weights / weights.sum()).tolist():
        strength = float(g.uniform(0.08, 1.05))
        if name in SIDED and g.random() < ONE_SIDE_SHARE:
            name = expand_sides(name)[int(g.integers(2))]
        actions |= draw_sides(g, name, strength)
    return actions


def action_shares(g: np.random.Generator, action_names: Sequence[str], n: int, above: float = 0.3) -> dict[str, float]:
    """Count how often each action is strong in images that ``random_actions`` and ``random_gaze`` draw.

    Args:
        g: Random generator.
        action_names: Actions that the head has.
        n: Number of draws.
        above: Strength that counts as strong.

    Returns:
        Action → share of the draws in which it is stronger than ``above``.
    """
    counts = dict.fromkeys(action_names, 0)
    for _ in range(n):
        for name, value in (random_actions(g, action_names) | gaze_actions(random_gaze(g))).items():
            if name in counts:
                counts[name] += value > above
    return {name: count / n for name, count in counts.items()}
