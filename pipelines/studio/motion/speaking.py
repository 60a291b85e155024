"""Speech: visemes in sequence that blend into each other, phrases with pauses, and brows that go with them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipelines.studio.motion.curves import smooth_noise, smooth_step, swell
from pipelines.studio.motion.sides import combine, draw_sides, expand_sides

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Viseme:
    """A mouth's shape for a group of sounds."""

    actions: dict[str, float]
    """Name of an action → its strength when the sound is spoken clearly; a name without a side means both sides."""
    share: float
    """Share of the sounds of its kind (vowels or consonants) in running speech, relative."""
    dominance: float
    """Weight against its neighbours: lips must meet for p, but k takes the shape of the vowels beside it."""
    vowel: bool = False
    """True for vowels."""


VISEMES: dict[str, Viseme] = {
    "aa": Viseme({"jawOpen": 0.62, "mouthLowerDown": 0.3, "mouthUpperUp": 0.12}, 0.2, 1.0, True),
    "ae": Viseme({"jawOpen": 0.45, "mouthStretch": 0.35, "mouthLowerDown": 0.4, "mouthUpperUp": 0.25}, 0.2, 1.0, True),
    "ee": Viseme({"jawOpen": 0.15, "mouthSmile": 0.3, "mouthStretch": 0.5, "mouthLowerDown": 0.3}, 0.2, 1.0, True),
    "uh": Viseme({"jawOpen": 0.3, "mouthLowerDown": 0.25, "mouthUpperUp": 0.1}, 0.25, 0.6, True),
    "oh": Viseme({"jawOpen": 0.42, "mouthFunnel": 0.75, "mouthPucker": 0.15}, 0.12, 1.3, True),
    "oo": Viseme({"jawOpen": 0.12, "mouthPucker": 0.8, "mouthFunnel": 0.3}, 0.1, 1.5, True),
    "pbm": Viseme({"mouthPress": 0.55, "mouthRollLower": 0.4, "mouthRollUpper": 0.35}, 0.12, 2.5),
    "fv": Viseme({"jawOpen": 0.06, "mouthRollLower": 0.65, "mouthUpperUp": 0.35, "mouthShrugLower": 0.2}, 0.08, 2.2),
    "th": Viseme({"jawOpen": 0.2, "tongueOut": 0.25, "mouthLowerDown": 0.25}, 0.07, 1.2),
    "tdn": Viseme({"jawOpen": 0.16, "mouthLowerDown": 0.3, "mouthUpperUp": 0.15, "mouthStretch": 0.1}, 0.33, 0.6),
    "sz": Viseme({"jawOpen": 0.05, "mouthStretch": 0.4, "mouthLowerDown": 0.45, "mouthUpperUp": 0.25}, 0.12, 1.0),
    "sh": Viseme({"jawOpen": 0.08, "mouthFunnel": 0.65, "mouthPucker": 0.2, "mouthLowerDown": 0.2}, 0.06, 1.5),
    "r": Viseme({"jawOpen": 0.18, "mouthFunnel": 0.35, "mouthPucker": 0.25, "mouthShrugUpper": 0.15}, 0.1, 1.0),
    "w": Viseme({"jawOpen": 0.06, "mouthPucker": 0.9}, 0.05, 1.8),
    "kg": Viseme({"jawOpen": 0.28, "mouthLowerDown": 0.15}, 0.12, 0.4),
}
"""Name of the viseme → its shape and weight."""
REST = 0.12
"""Weight of the mouth at rest beside the visemes: without a sound near, the mouth closes."""
WIDTH_S = 0.075
"""Standard width of a sound in time, seconds; it overlaps its neighbours, which blends their shapes."""
LEAD_S = 4.0
"""Longest time that a person has been speaking when the first frame is taken, seconds."""
QUESTION_SHARE = 0.22
"""Share of the phrases that are questions, at whose end the brows rise."""


@dataclass(frozen=True)
class Speech:
    """Speech over T timesteps."""

    actions: dict[str, Floats]
    """Action → strengths (T,), 0 to 1."""
    emphasis: Floats
    """(T,) strength of the beats on stressed syllables, with which the head nods."""


@dataclass(frozen=True)
class _Sounds:
    """K sounds in order."""

    time: Floats
    """(K,) times of their middles, seconds."""
    viseme: NDArray[np.int64]
    """(K,) indices in ``VISEMES``."""
    clarity: Floats
    """(K,) factors of their strengths."""
    stressed: NDArray[np.bool_]
    """(K,) True for stressed ones."""
    phrases: list[tuple[float, float]]
    """Start and end of each phrase, seconds."""


def speech(g: np.random.Generator, times: Floats) -> dict[str, Floats]:
    """Draw the actions of a person who talks, see ``plan_speech``."""
    return plan_speech(g, times).actions


def plan_speech(g: np.random.Generator, times: Floats) -> Speech:
    """Draw speech of four to five syllables a second with pauses; it has begun before the first frame.

    Args:
        g: Random generator.
        times: (T,) times, seconds, ascending.
    """
    sounds = _draw_sounds(g, float(times[0]) - g.uniform(0.5, LEAD_S), float(times[-1]))
    mouth = _mouth(g, times, sounds)
    brows, emphasis = _brows(g, times, sounds)
    mood = np.clip(0.25 + 0.35 * smooth_noise(g, times, 4.0), 0, 0.8) * g.uniform(0, 1)
    smile = {name: value * mood for name, value in draw_sides(g, "mouthSmile", 0.7).items()}
    return Speech(combine(mouth, brows, smile), emphasis)


def _draw_sounds(g: np.random.Generator, start: float, end: float) -> _Sounds:
    kinds = list(VISEMES.values())
    vowels, consonants = (np.array([i for i, v in enumerate(kinds) if v.vowel is wanted]) for wanted in (True, False))
    weight = [np.array([kinds[i].share for i in group]) for group in (vowels, consonants)]
    rows: list[tuple[float, int, float, bool]] = []
    phrases, time = [], start
    while time < end + 0.5:
        first, until = time, time + g.uniform(0.8, 3.5)
        clarity, rate = g.uniform(0.45, 1.15), g.uniform(3.6, 5.6)
        while time < until:
            stressed = bool(g.random() < 0.3)
            loud = clarity * (1.25 if stressed else g.uniform(0.6, 1.0))
            if g.random() < 0.85:
                rows.append((time, int(g.choice(consonants, p=weight[1] / weight[1].sum())), loud, False))
            period = g.uniform(0.75, 1.3) / rate * (1.2 if stressed else 1)
            rows.append((time + 0.45 * period, int(g.choice(vowels, p=weight[0] / weight[0].sum())), loud, stressed))
            time += period
        phrases.append((first, time))
        time += g.uniform(0.2, 0.9)
    times, viseme, loudness, stress = zip(*rows, strict=True)
    return _Sounds(np.array(times), np.array(viseme), np.array(loudness), np.array(stress, bool), phrases)


def _mouth(g: np.random.Generator, times: Floats, sounds: _Sounds) -> dict[str, Floats]:
    """Return the actions of the mouth: the mean of the visemes' shapes, weighted by nearness and dominance."""
    kinds = list(VISEMES.values())
    names = list(dict.fromkeys(name for kind in kinds for name in kind.actions))
    shapes = np.array([[kind.actions.get(name, 0.0) for name in names] for kind in kinds])
    dominance = np.array([kind.dominance for kind in kinds])[sounds.viseme]
    near = np.exp(-(((times[:, None] - sounds.time) / WIDTH_S) ** 2)) * dominance
    strengths = (near @ (shapes[sounds.viseme] * sounds.clarity[:, None])) / (near.sum(1, keepdims=True) + REST)
    sides = {name: draw_sides(g, name, 1.0) for name in names}
    return {side: strengths[:, i] * factor for i, name in enumerate(names) for side, factor in sides[name].items()}


def _brows(g: np.random.Generator, times: Floats, sounds: _Sounds) -> tuple[dict[str, Floats], Floats]:
    """Return the actions of brows and lids, and the emphasis (T,)."""
    raised, lowered, emphasis = (np.zeros_like(times) for _ in range(3))
    for beat in sounds.time[sounds.stressed]:
        strength, curve = g.uniform(0.15, 0.8), swell(times, beat - 0.12, 0.12, 0.05, 0.25)
        emphasis = np.maximum(emphasis, strength * curve)
        if g.random() < 0.35:
            target = lowered if g.random() < 0.25 else raised
            np.maximum(target, strength * curve, out=target)
    for start, end in sounds.phrases:
        if g.random() < QUESTION_SHARE:
            middle = start + 0.5 * (end - start)
            rise = smooth_step((times - middle) / 0.35) * smooth_step((end + 0.5 - times) / 0.3)
            np.maximum(raised, g.uniform(0.3, 1.0) * rise, out=raised)
    inner, outer, wide = g.uniform(0.4, 1), g.uniform(0.4, 1), g.uniform(0, 0.5)
    parts = {"browInnerUp": inner * raised, "browOuterUp": outer * raised, "eyeWide": wide * raised}
    parts |= {"browDown": lowered, "eyeSquint": 0.4 * lowered}
    sides = {name: draw_sides(g, name, 1.0) for name in parts}
    return {side: parts[name] * sides[name][side] for name in parts for side in expand_sides(name)}, emphasis
