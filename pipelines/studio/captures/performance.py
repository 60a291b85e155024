"""The performance of a studio person in a recording session: named segments, frame by frame."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from pipelines.media.cameras import Array, rotation_yxz
from pipelines.studio.motion import MotionKind, plan_motion
from pipelines.studio.people.figure import Figure, Pose

Floats = NDArray[np.float32]
FREE = ("free", "dance", "rom", "head", "workout")
"""Words in the name of a segment in which the head moves freely and the person talks."""
SPOKEN = ("sen", "speech", "read")
"""Words in the name of a segment in which the person talks.

A segment with ``neutral`` in its name stays neutral. Any other segment without a word of ``FREE`` or ``SPOKEN`` shows
an expression, from neutral to its peak and back.
"""
SHOULDERS_STAY = (0.3, 1.0)
"""Least and largest share of the head's turn that the shoulders do not follow."""


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
    vertices: Floats
    """(V, 3) vertices of the head model in the head's frame, metres, without hair and accessories."""
    pose: Pose
    """Pose of the figure in the studio, whose axes are those of the head at rest."""


def plan_timesteps(
    figure: Figure,
    g: np.random.Generator,
    segments: Mapping[str, int],
    fps: float = 30.0,
    first_frame: int = 0,
    frame_step: int = 1,
) -> list[Timestep]:
    """Draw the timesteps of a performance, segment by segment; the world's axes are those of the head at rest.

    Args:
        figure: The person who performs.
        g: Random generator.
        segments: Name of the segment → number of its frames, in order.
        fps: Frame numbers per second.
        first_frame: Number of the first frame.
        frame_step: Difference between consecutive frame numbers; for example 4 if a data set keeps every fourth frame.

    Returns:
        The timesteps in order.

    Raises:
        ValueError: The figure has no parameters of the open head.
    """
    timesteps: list[Timestep] = []
    frame = first_frame
    for name, n in segments.items():
        if n < 1:
            continue
        frames = frame + frame_step * np.arange(n)
        timesteps += _segment(figure, g, name, frames, frames / fps)
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


def turned_pose(actions: Mapping[str, float], eyes: Array, turn: Array, shift: Array, stays: float) -> Pose:
    """Return the pose of a person whose head turns about the neck, with shoulders that follow in part.

    Args:
        actions: Named action → strength, without those of gaze.
        eyes: (2, 2) angles of the left and the right eye, radians.
        turn: (3,) yaw, pitch and roll of the head, radians.
        shift: (3,) additional translation, metres.
        stays: Share of the turn that the shoulders do not follow.
    """
    rotation, to_world = rotation_yxz(*turn), np.eye(4)
    to_world[:3] = turn_about_neck(rotation, shift)
    x, y, z = (stays * cv2.Rodrigues(rotation)[0][:, 0]).tolist()
    (left_x, left_y), (right_x, right_y) = eyes.tolist()
    return Pose(actions, ((left_x, left_y), (right_x, right_y)), to_world, (x, y, z))


def _segment(
    figure: Figure, g: np.random.Generator, name: str, frames: NDArray[np.int64], times: Array
) -> list[Timestep]:
    motion, stays = plan_motion(g, times, motion_kind(name)), float(g.uniform(*SHOULDERS_STAY))
    timesteps = []
    for i, (frame, time) in enumerate(zip(frames, times, strict=True)):
        actions = {action: float(strengths[i]) for action, strengths in motion.actions.items()}
        pose = turned_pose(actions, motion.eyes[i], motion.turns[i], motion.shifts[i], stays)
        posed = figure.pose(pose)
        if posed.expression is None or posed.rotations is None or posed.head_vertices is None:
            source = figure.attributes.source
            raise ValueError(
                f"people of source {source!r} have no parameters of the open head: name open with --people"
            )
        timesteps.append(
            Timestep(
                int(frame),
                name,
                float(time),
                posed.expression,
                posed.rotations,
                pose.head_to_world[:3],
                posed.head_vertices,
                pose,
            )
        )
    return timesteps
