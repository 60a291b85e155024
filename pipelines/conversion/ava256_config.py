"""Settings of Ava-256's conversion, the choice of its frames, their splits, and the head model's frame."""

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
"""Subjects held out by default: 12, as the datasheet recommends for avatar driving. It names none: these
are the last ones of ``256_ids.csv``."""
LEFT_OUT = (
    "EXP_Neutral_color_checker",
    "EXP_hair_dynamics_no_hand_interaction",
    "EXP_hair_dynamics_hand_interaction",
    "EXP_neutral_hairline",
    "EXP_ear",
)
"""Segments that the published loader leaves out: they show hands, a colour chart or loose hair."""
PERSON = tuple(c for c in range(naming.HAIR, naming.TONGUE + 1) if c != naming.CHAIR)
"""Classes of the segmentation that belong to the person: all but the background and the chair."""

HEAD_AXES = np.diag([1.0, -1.0, -1.0])
"""(3, 3) from the axes of Ava-256's heads (x to the head's left, y down, z out of the back, as a camera in front sees
them; read off the published topology's vertices) to the head model's (y up, z out of the face)."""
NOSE = np.array([0.0, -0.0408, 0.0469])
"""The tip of the nose in the head model's frame, whose origin lies between the eyes, metres (the open head's)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Ava256Config(ConversionConfig):
    """Settings of Ava-256's conversion."""

    held_out_people: tuple[str, ...] = HELD_OUT_PEOPLE
    """Subjects in the split test: never used in training."""
    held_out_segments: tuple[str, ...] = (naming.HELD_OUT_SEGMENT,)
    """Segments of all other people in the split val."""
    left_out_segments: tuple[str, ...] = LEFT_OUT
    """Segments that are not converted."""
    person_classes: tuple[int, ...] = PERSON
    """Classes of the segmentation that the matte covers."""
    matte_needed: bool = True
    """Whether a view without segmentation is rejected; else it is used without a matte."""
    undistort: bool = False
    """Whether images are undistorted by the calibration's coefficients; the published loader ignores these."""


def split_of_person(sid: str, config: Ava256Config) -> str:
    """Return the split of a subject: test for one who is held out, else train."""
    return "test" if sid in config.held_out_people else "train"


def split_of_view(person: str, segment: str, config: Ava256Config) -> str:
    """Return the split of a view.

    Args:
        person: The person's split.
        segment: The view's segment.
        config: Settings that name the held-out segments.

    Returns:
        The person's split, or val for a held-out segment of a training person.
    """
    return "val" if person == "train" and segment in config.held_out_segments else person


def select_frames(frames: Sequence[ListedFrame], config: Ava256Config) -> list[ListedFrame]:
    """Choose the first frame and each ``every``-th after it in each segment that is not left out.

    Args:
        frames: The capture's listed frames.
        config: Settings.

    Returns:
        The chosen frames, in the list's order.
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
    """Return the transform from the head model's frame to that of the registered mesh.

    The axes are ``HEAD_AXES``; the origin is chosen so that the tips of both noses meet, because Ava-256 publishes no
    position of the eyes.

    Args:
        mean_vertices: The registered mesh's mean vertices, (V, 3), metres.

    Returns:
        (3, 4), metres.
    """
    turned = mean_vertices @ HEAD_AXES.T
    tip = turned[np.argmax(turned[:, 2])]
    return np.concatenate([HEAD_AXES.T, (HEAD_AXES.T @ (tip - NOSE))[:, None]], axis=1)
