"""Sample clips of rendered people; unlike photographs, these heads turn and talk."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pipelines.studio.captures.capture_studio import CaptureStudio

FPS = 8.0
"""Frames per second.

The rate is low, because a rendered frame takes twenty times as long as a frame of a photograph, and mining reads only a
few frames per second.
"""
SIZES = (304, 288)
"""Side of the square frames of a person's first and second clip, pixels."""
LICENCE = "CC0 (rendered from the open head)"
"""Licence of the rendered clips."""
_ZOOM = 1.25
"""Factor for the focal length, because the studio's camera leaves room for shoulders, which rendered heads lack."""
_STUDIO_NAMES = {
    "rendered_person_1": "rendered_person_27",
    "rendered_person_2": "rendered_person_55",
    "rendered_person_3": "rendered_person_58",
    "rendered_person_4": "rendered_person_35",
}
"""Label of the person → name from which the studio makes the person; its number says sex, age and tone of skin.

SFace distinguishes them: over their clips, the similarity of two is at most 0.44, of the same person at least 0.78.
Clustering takes faces from 0.5 for one person.
"""


def rendered_people(quick: bool) -> tuple[str, ...]:
    """Return the anonymous labels of the rendered people: three if ``quick``, otherwise all."""
    return tuple(_STUDIO_NAMES)[: 3 if quick else None]


def clip_seconds(quick: bool) -> float:
    """Return the length of a rendered clip, seconds."""
    return 3.25 if quick else 5.0


def film_rendered(
    studio: CaptureStudio, person: str, take: int, quick: bool, frames: Sequence[int] | None = None
) -> Iterator[np.ndarray]:
    """Render a take of a person; the two takes differ in light, background and speech.

    Args:
        studio: People, renderer and light; the renderer is used in the thread that opened it.
        person: A label from ``rendered_people``.
        take: Number of the take, 0 or 1.
        quick: Make the shorter clip, as in ``clip_seconds``.
        frames: Indices of the frames; all by default.

    Yields:
        Frames (size, size, 3) uint8 RGB.
    """
    from pipelines.studio.captures.talking_head import render_talking_head

    video = render_talking_head(studio, _STUDIO_NAMES[person], clip_seconds(quick), FPS, SIZES[take], take)
    zoomed = video.camera.K.copy()
    zoomed[[0, 1], [0, 1]] *= _ZOOM
    poses = video.poses if frames is None else tuple(video.poses[frame] for frame in frames)
    return replace(video, camera=replace(video.camera, K=zoomed), poses=poses).frames()
