"""The performance of a studio person in a recording session: named segments, frame by frame."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipelines.media.cameras import Array, rotation_yxz
from pipelines.studio.motion import MotionKind, plan_motion
from pipelines.studio.studio_head import StudioHead

Floats = NDArray[np.float32]
FREE = ("free", "dance", "rom", "head", "workout")
"""Words in the name of a segment in which the head moves freely and the person talks."""
SPOKEN = ("sen", "speech", "read")
"""Words in the name of a segment in which the person talks.

A segment with ``neutral`` in its name stays neutral. Any other segment without a word of ``FREE`` or ``SPOKEN`` shows
an expression, from neutral to its peak and back.
"""


@dataclass(frozen=True)
class Timestep:
    """The performance at one timestep of a capture, which is the truth of its images."""

    frame_index: int
    """Number of the frame."""
    segment: str
    """Name of the segment."""
    time_s: float
    """Time of the frame, seconds."""
    expression: Floats
    """(E,) expression coefficients of the head model."""
    rotations: Floats
    """(5, 3) axis-angles of the joints, radians."""
    head_to_world: Array
    """(3, 4) pose of the head, metres."""


def plan_timesteps(
    head: StudioHead,
    g: np.random.Generator,
    segments: Mapping[str, int],
    fps: float = 30.0,
    first_frame: int = 0,
    frame_step: int = 1,
) -> list[Timestep]:
    """Draw the timesteps of a performance, segment by segment; the world's axes are those of the head at rest.

    Args:
        head: The head that performs.
        g: Random generator.
        segments: Name of the segment → number of its frames, in order.
        fps: Frame numbers per second.
        first_frame: Number of the first frame.
        frame_step: Difference between consecutive frame numbers; for example 4 if a data set keeps every fourth frame.

    Returns:
        The timesteps in order.
    """
    timesteps: list[Timestep] = []
    frame = first_frame
    for name, n in segments.items():
        if n < 1:
            continue
        frames = frame + frame_step * np.arange(n)
        timesteps += _segment(head, g, name, frames, frames / fps)
        frame += frame_step * n
    return timesteps


def turn_about_neck(rotation: Array, shift: Array) -> Array:
    """Return the pose of a head that rotates about the neck, a point below and behind the eyes.

    Args:
        rotation: (3, 3) rotation of the head.
        shift: (3,) additional translation, metres.

    Returns:
        (3, 4) transform from the head to the world, metres.
    """
    neck = np.array([0.0, -0.09, -0.09])
    return np.concatenate([rotation, (neck - rotation @ neck + shift)[:, None]], axis=1)


def motion_kind(segment: str) -> MotionKind:
    """Return the kind of motion of a segment by the words in its name."""
    name = segment.lower()
    if "neutral" in name:
        return "neutral"
    if any(word in name for word in FREE):
        return "free"
    return "speech" if any(word in name for word in SPOKEN) else "expression"


def _segment(
    head: StudioHead, g: np.random.Generator, name: str, frames: NDArray[np.int64], times: Array
) -> list[Timestep]:
    motion = plan_motion(g, times, motion_kind(name))
    expression, rotations = head.parameters(motion.all_actions())
    poses = [
        turn_about_neck(rotation_yxz(*turn), shift) for turn, shift in zip(motion.turns, motion.shifts, strict=True)
    ]
    return [
        Timestep(int(frame), name, float(time), expression[i], rotations[i], poses[i])
        for i, (frame, time) in enumerate(zip(frames, times, strict=True))
    ]
