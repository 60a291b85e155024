"""What a person does in a recording session: named segments, frame by frame."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipelines.media.cameras import Array, rotation_yxz
from pipelines.studio.motion import blinks, gaze, random_expression, smooth_noise, speech
from pipelines.studio.studio_head import StudioHead

Floats = NDArray[np.float32]
STILL, MOVING = 0.5, 1.6
"""How far the head turns, times the usual, while the person poses and while it moves freely."""
FREE = ("free", "dance", "rom", "head", "workout")
SPOKEN = ("sen", "speech", "read")
"""Words in a segment's name: the head moves freely, the person talks. Any other segment is an expression, from neutral
to its peak and back; one with ``neutral`` in its name is none."""


@dataclass(frozen=True)
class Timestep:
    """One moment of a capture, with its truth."""

    frame_index: int
    segment: str
    time_s: float
    expression: Floats
    """(E,) coefficients of the head model."""
    rotations: Floats
    """(5, 3) axis-angle of the joints, radians."""
    head_to_world: Array
    """(3, 4) metres."""


def perform(
    head: StudioHead,
    g: np.random.Generator,
    segments: Mapping[str, int],
    fps: float = 30.0,
    first_frame: int = 0,
    frame_step: int = 1,
) -> list[Timestep]:
    """The moments of ``segments`` (name → frames), one after the other; the world's axes are the head's at rest.

    ``frame_step`` is how far frame numbers lie apart (a data set may keep each fourth frame), ``fps`` the rate at which
    they count.
    """
    moments: list[Timestep] = []
    frame = first_frame
    for name, n in segments.items():
        if n < 1:
            continue
        frames = frame + frame_step * np.arange(n)
        moments += _segment(head, g, name, frames, frames / fps)
        frame += frame_step * n
    return moments


def _segment(
    head: StudioHead, g: np.random.Generator, name: str, frames: NDArray[np.int64], times: Array
) -> list[Timestep]:
    word = name.lower()
    actions = _actions(g, word, times)
    expression, rotations = head.parameters(actions)
    by = MOVING if any(part in word for part in FREE) else STILL
    limits = np.radians([30.0, 15.0, 10.0])
    turns = np.stack([0.5 * by * limit * smooth_noise(g, times, 3.0) for limit in limits], 1).clip(-limits, limits)
    drift = 0.01 * by * np.stack([smooth_noise(g, times, 5.0) for _ in range(3)], 1)
    pivot = np.array([0.0, -0.09, -0.09])  # the head turns about the neck, below and behind the eyes
    places = []
    for turn, shift in zip(turns, drift, strict=True):
        rotation = rotation_yxz(*turn)
        places.append(np.concatenate([rotation, (pivot - rotation @ pivot + shift)[:, None]], axis=1))
    return [
        Timestep(int(frame), name, float(time), expression[i], rotations[i], places[i])
        for i, (frame, time) in enumerate(zip(frames, times, strict=True))
    ]


def _actions(g: np.random.Generator, word: str, times: Array) -> dict[str, Array]:
    """Strengths (T,) of actions over a segment."""
    blink = blinks(g, times)
    if "neutral" in word:
        return {"eyeBlinkLeft": blink, "eyeBlinkRight": blink, "jawOpen": np.zeros_like(times)}
    if any(part in word for part in (*SPOKEN, *FREE)):
        actions = speech(g, times)
        looks = [gaze(float(across), float(up)) for across, up in g.normal(scale=[0.3, 0.15], size=(len(times), 2))]
        actions |= {look: np.array([at[look] for at in looks]) for look in looks[0]}
        return actions | {"eyeBlinkLeft": blink, "eyeBlinkRight": blink}
    _, peak = random_expression(g)
    # From neutral to the peak and back within the segment; a segment of one frame is the peak.
    rise = np.sin(np.pi * (np.arange(len(times)) + 1) / (len(times) + 1))
    return {action: strength * rise for action, strength in peak.items()}
