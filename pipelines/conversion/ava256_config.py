"""Settings of the conversion of Ava-256, selection and splits of its frames, and its head coordinates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ava256 import naming
from ava256.reader import ListedFrame
from pipelines.conversion.conversion_config import ConversionConfig
from pipelines.media.cameras import Array

HELD_OUT_PEOPLE = (
    "ZEL435",
    "ZEM686",
    "ZJN985",
    "ZKN852",
    "ZQK191",
    "ZSC414",
    "ZSE894",
    "ZUE409",
    "ZUS575",
    "ZWG600",
    "ZWR419",
    "ZZS850",
)
"""Subjects that are held out by default.

The datasheet recommends 12 for avatar driving but does not name them; these are the last 12 in ``256_ids.csv``.
"""
LEFT_OUT = (
    "EXP_Neutral_color_checker",
    "EXP_hair_dynamics_no_hand_interaction",
    "EXP_hair_dynamics_hand_interaction",
    "EXP_neutral_hairline",
    "EXP_ear",
)
"""Segments that the published loader skips, because they show hands, a colour chart or loose hair."""
PERSON = tuple(c for c in range(naming.HAIR, naming.TONGUE + 1) if c != naming.CHAIR)
"""Segmentation classes that belong to the person: all except the background and the chair."""

HEAD_AXES = np.diag([1.0, -1.0, -1.0])
"""(3, 3) rotation from the axes of Ava-256's heads to those of the head model.

Ava-256: x to the head's left, y down, z out of the back of the head, as seen by a camera in front (determined from the
vertices of the published topology). Head model: x to the head's left, y up, z out of the face.
"""
NOSE = np.array([0.0, -0.0408, 0.0469])
"""Position (3,) of the open head's nose tip in the head model's frame, whose origin lies between the eyes, metres."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Ava256Config(ConversionConfig):
    """Settings of the conversion of Ava-256."""

    held_out_people: tuple[str, ...] = HELD_OUT_PEOPLE
    """Subjects in the split test, which is never used in training."""
    held_out_segments: tuple[str, ...] = (naming.HELD_OUT_SEGMENT,)
    """Segments that are in the split val for all other people."""
    left_out_segments: tuple[str, ...] = LEFT_OUT
    """Segments that are not converted."""
    person_classes: tuple[int, ...] = PERSON
    """Segmentation classes that the matte covers."""
    matte_needed: bool = True
    """Reject a view without segmentation; if False, it is converted without a matte."""
    undistort: bool = False
    """Undistort images with the calibration's distortion coefficients, which the published loader ignores."""


def split_of_person(sid: str, config: Ava256Config) -> str:
    """Return the split of a subject: test if the subject is held out, otherwise train."""
    return "test" if sid in config.held_out_people else "train"


def split_of_view(person: str, segment: str, config: Ava256Config) -> str:
    """Return the split of a view.

    Args:
        person: Split of the person.
        segment: Segment of the view.
        config: Settings that name the held-out segments.

    Returns:
        The person's split, or val for a held-out segment of a training person.
    """
    return "val" if person == "train" and segment in config.held_out_segments else person


def select_frames(frames: Sequence[ListedFrame], config: Ava256Config) -> list[ListedFrame]:
    """Choose the first frame of each converted segment and then every ``every``-th frame.

    Args:
        frames: Frames in the capture's frame list.
        config: Settings.

    Returns:
        The chosen frames, in the order of the list.
    """
    positions: dict[str, int] = {}
    chosen = []
    for frame in frames:
        if frame.segment in config.left_out_segments:
            continue
        position = positions[frame.segment] = positions.get(frame.segment, -1) + 1
        if position % config.every == 0:
            chosen.append(frame)
    return chosen


def head_model_frame(mean_vertices: Array) -> Array:
    """Return the transform from the head model's frame to the frame of the registered mesh.

    The rotation is the transpose of ``HEAD_AXES``. The translation makes the nose tips of both heads coincide, because
    Ava-256 does not publish the position of the eyes.

    Args:
        mean_vertices: (V, 3) mean vertices of the registered mesh, metres.

    Returns:
        (3, 4) rotation and translation, metres.
    """
    turned = mean_vertices @ HEAD_AXES.T
    tip = turned[np.argmax(turned[:, 2])]
    return np.concatenate([HEAD_AXES.T, (HEAD_AXES.T @ (tip - NOSE))[:, None]], axis=1)
