"""Motion of a face and a head over a stretch of time: neutral, an expression, speech, or free motion."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pipelines.studio.motion.blinking import blink_actions
from pipelines.studio.motion.curves import smooth_noise, swell
from pipelines.studio.motion.expressions import random_expression
from pipelines.studio.motion.gazing import gaze_strengths, plan_gaze, random_gaze, without_gaze
from pipelines.studio.motion.sides import combine, face_actions, reconcile
from pipelines.studio.motion.single_images import single_actions
from pipelines.studio.motion.speaking import plan_speech

Floats = NDArray[np.float64]
MotionKind = Literal["neutral", "expression", "speech", "free"]
"""``neutral`` has blinks only; ``expression`` goes from neutral to a peak and back; ``free`` is speech with a head that
moves much, and faces in between."""
LIMITS = np.radians([30.0, 15.0, 10.0])
"""Largest yaw, pitch and roll of the head, radians."""
POSTURE: dict[MotionKind, float] = {"neutral": 0.5, "expression": 0.5, "speech": 0.5, "free": 1.6}
"""Factors of the head's slow motion."""
FOLLOW: dict[MotionKind, float] = {"neutral": 0.0, "expression": 0.0, "speech": 0.35, "free": 0.6}
"""Shares of a jump of the gaze that the head follows."""
NOD = 0.07
"""Nod with full emphasis, radians."""


@dataclass(frozen=True)
class MotionPlan:
    """Motion over T timesteps."""

    actions: dict[str, Floats]
    """Action → strengths (T,), 0 to 1, without those of gaze."""
    eyes: Floats
    """(T, 2, 2) angles of the left and the right eye against the head, radians: to the head's left, and up."""
    turns: Floats
    """(T, 3) yaw, pitch and roll of the head, radians, as ``pipelines.media.cameras.rotation_yxz`` takes them."""
    shifts: Floats
    """(T, 3) translation of the head, metres."""

    def all_actions(self) -> dict[str, Floats]:
        """Return action → strengths (T,) with those of gaze."""
        return self.actions | gaze_strengths(self.eyes)


def plan_motion(g: np.random.Generator, times: Floats, kind: MotionKind) -> MotionPlan:
    """Draw the motion of a stretch of time.

    Args:
        g: Random generator.
        times: (T,) times, seconds, ascending; at least one.
        kind: Kind of motion.
    """
    looking = plan_gaze(g, times, FOLLOW[kind])
    actions = blink_actions(g, times, also=looking.shifts if FOLLOW[kind] else None)
    eyes, head = looking.eyes, np.zeros((len(times), 3))
    if kind == "expression":
        # A single frame shows the peak.
        rise = np.sin(np.pi * (np.arange(len(times)) + 1) / (len(times) + 1))
        actions = {name: value * rise for name, value in without_gaze(random_expression(g)[1]).items()}
        eyes = rise[:, None, None] * np.array(random_gaze(g))
    elif kind == "neutral":
        eyes = np.zeros_like(eyes)
    else:
        spoken = plan_speech(g, times)
        faces = _faces(g, times) if kind == "free" else {}
        actions = combine(spoken.actions, faces, actions)
        # A rotation about +X nods down.
        head[:, 0] += looking.head[:, 0]
        head[:, 1] += NOD * spoken.emphasis - looking.head[:, 1]
    slow = np.stack([smooth_noise(g, times, 3.0) for _ in LIMITS], 1)
    turns = np.clip(head + 0.5 * POSTURE[kind] * LIMITS * slow, -LIMITS, LIMITS)
    shifts = 0.01 * POSTURE[kind] * np.stack([smooth_noise(g, times, 5.0) for _ in range(3)], 1)
    return MotionPlan(reconcile(actions), eyes, turns, shifts)


def _faces(g: np.random.Generator, times: Floats) -> dict[str, Floats]:
    """Draw faces that are pulled every few seconds: expressions, and single actions at all strengths."""
    total: dict[str, Floats] = {}
    start = float(times[0]) - g.uniform(0, 2)
    while start < times[-1]:
        drawn = random_expression(g, least=0.2)[1] if g.random() < 0.5 else single_actions(g, face_actions())
        rise, hold, fall = g.uniform(0.15, 0.6), g.uniform(0.1, 1.0), g.uniform(0.2, 0.8)
        curve = swell(times, start, rise, hold, fall)
        for name, value in without_gaze(drawn).items():
            total[name] = total.get(name, np.zeros_like(times)) + value * curve
        start += rise + hold + fall + g.uniform(0.2, 2.0)
    return total
