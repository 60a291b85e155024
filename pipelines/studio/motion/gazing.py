"""Gaze: directions of both eyes, the actions that belong to them, and gaze that leads the head over time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipelines.studio.motion.curves import steps

Floats = NDArray[np.float64]
Angles = tuple[tuple[float, float], tuple[float, float]]
"""Angles of the left and the right eye from straight ahead, radians: to the head's left, and up."""
FULL = {"Up": 0.45, "Down": 0.45, "In": 0.55, "Out": 0.55}
"""Turn of the eye at full strength of its action, radians."""
LIMIT = np.array([0.6, 0.45])
"""Largest angles of an eye to the side and up, radians; beyond them the head turns."""
SPREAD = (0.24, 0.15)
"""Standard deviations of an eye's angles to the side and up in single images, radians."""
HALF_DISTANCE = 0.0315
"""Half of the distance between the eyes, metres."""
NEAR, FAR = 0.35, 4.0
"""Distances at which people look, metres; both eyes turn inwards for near ones."""
LISTENER_SHARE = 0.55
"""Share of the fixations that are on the listener, who is straight ahead."""
SACCADE_S = 0.06
"""Duration of a jump of the eyes, seconds."""


@dataclass(frozen=True)
class GazePlan:
    """Gaze and the head's share of it over T timesteps."""

    eyes: Floats
    """(T, 2, 2) angles of the left and the right eye against the head, radians: to the head's left, and up."""
    head: Floats
    """(T, 2) angles of the head, radians: to its left, and up."""
    shifts: Floats
    """(J,) times of the large jumps, at which people tend to blink."""


def gaze(across: float, up: float) -> dict[str, float]:
    """Return the strengths of the actions that turn both eyes.

    Args:
        across: Horizontal gaze: 1 is fully to the head's left, -1 fully to its right.
        up: Vertical gaze: 1 is fully up, -1 fully down.
    """
    angles = (across * FULL["Out"], up * FULL["Up"])
    return gaze_actions((angles, angles))


def gaze_actions(angles: Angles) -> dict[str, float]:
    """Return the strengths from 0 to 1 of the eight actions that belong to the angles of the left and right eye.

    Args:
        angles: Angles of the left and the right eye, radians: to the head's left, and up.
    """
    over_time = gaze_strengths(np.array([angles]))
    return {name: float(strength[0]) for name, strength in over_time.items()}


def gaze_strengths(eyes: Floats) -> dict[str, Floats]:
    """Return the strengths (T,) of the eight actions of gaze.

    Args:
        eyes: (T, 2, 2) angles, as in ``GazePlan``.
    """
    strengths = {}
    for eye, (side, outward) in enumerate((("Left", 1), ("Right", -1))):
        across, up = outward * eyes[:, eye, 0], eyes[:, eye, 1]
        for name, angle in {"Out": across, "In": -across, "Up": up, "Down": -up}.items():
            strengths[f"eyeLook{name}{side}"] = np.clip(angle / FULL[name], 0, 1)
    return strengths


def without_gaze(actions: Mapping[str, float]) -> dict[str, float]:
    """Return the actions without those of gaze."""
    return {name: value for name, value in actions.items() if not name.startswith("eyeLook")}


def random_gaze(g: np.random.Generator) -> Angles:
    """Draw the angles of both eyes in one image; they meet at a point at a random distance."""
    across, up = np.clip(g.normal(scale=SPREAD), -LIMIT, LIMIT).tolist()
    inward = float(vergence(draw_distance(g)))
    return (across - inward, up), (across + inward, up)


def draw_distance(g: np.random.Generator) -> float:
    """Draw the distance of what a person looks at, metres."""
    return float(np.exp(g.uniform(np.log(NEAR), np.log(FAR))))


def vergence(distance: float | Floats) -> Floats:
    """Return the angle by which each eye turns inwards for a distance in metres, radians."""
    return np.arctan2(HALF_DISTANCE, distance)


def plan_gaze(g: np.random.Generator, times: Floats, follow: float) -> GazePlan:
    """Draw fixations over time: the eyes jump, the head follows later and slower, and the eyes turn back against it.

    Args:
        g: Random generator.
        times: (T,) times, seconds, ascending.
        follow: Mean share of a jump that the head follows, 0 to 1.
    """
    starts = _fixations(g, times)
    k = len(starts)
    targets = np.where(
        g.random((k, 1)) < LISTENER_SHARE, g.normal(scale=0.05, size=(k, 2)), g.normal(scale=[0.42, 0.2], size=(k, 2))
    )
    inward = vergence(np.array([draw_distance(g) for _ in range(k)]))[:, None]
    world = steps(times, starts, np.concatenate([targets, inward], 1), np.full(k, SACCADE_S))
    shares = np.clip(g.normal(follow, 0.2, (k, 1)), 0, 0.9)
    late = starts + g.uniform(0.06, 0.2, k)
    head = steps(times, late, targets * shares, g.uniform(0.25, 0.6, k))
    inside = np.clip(world[:, :2] - head, -LIMIT, LIMIT)
    sides = np.concatenate([world[:, 2:], np.zeros_like(world[:, 2:])], 1)
    jumps = np.linalg.norm(np.diff(targets, axis=0), axis=1)
    return GazePlan(np.stack([inside - sides, inside + sides], 1), head, starts[1:][jumps > 0.35])


def _fixations(g: np.random.Generator, times: Floats) -> Floats:
    """Draw the times (K,) at which fixations begin, the first before all frames."""
    starts = [float(times[0]) - 3.0]
    while starts[-1] < times[-1]:
        starts.append(starts[-1] + float(np.clip(np.exp(g.normal(np.log(0.8), 0.6)), 0.2, 4)))
    return np.array(starts)
