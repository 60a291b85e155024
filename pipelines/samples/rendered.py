"""Rendered people among the samples: heads that turn and talk, since photographs don't."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pipelines.studio.studio_head import StudioHead

FPS = 8.0
"""A rendered frame costs twenty times as much as one of a photograph, and mining looks at a few a second."""
SIZES = (304, 288)
"""Width and height of a person's first and second clip, px."""
LICENCE = "CC0 (rendered from the open head)"
_ZOOM = 1.25
"""The studio's camera leaves room for shoulders that a rendered head does not have."""
_LOOKS = {
    "rendered_person_1": "rendered_person_17",
    "rendered_person_2": "rendered_person_14",
    "rendered_person_3": "rendered_person_18",
    "rendered_person_4": "rendered_person_3",
    "rendered_person_5": "rendered_person_4",
}
"""Label to the name from which the studio draws the looks: of 24 such names, those whom SFace takes apart best (0.38 at
most between two; the nearest of all 24 would be taken for one person)."""


def rendered_people(quick: bool) -> tuple[str, ...]:
    """Anonymous labels of the rendered people."""
    return tuple(_LOOKS)[: 3 if quick else None]


def seconds_of(quick: bool) -> float:
    """Length of a rendered clip."""
    return 3.25 if quick else 5.0


def film_rendered(
    head: StudioHead, person: str, take: int, quick: bool, frames: Sequence[int] | None = None
) -> Iterator[np.ndarray]:
    """Frames, uint8 (size, size, 3), RGB, of a person's take: another one has other light, background and words.

    Args:
        head: ``pipelines.studio.studio_head.load_studio_head``'s.
        person: one of ``rendered_people``.
        take: 0 or 1.
        quick: length, as ``seconds_of`` says.
        frames: which frames; all by default.
    """
    from pipelines.studio.talking_head import render_talking_head

    video = render_talking_head(head, _LOOKS[person], seconds_of(quick), FPS, SIZES[take], take)
    closer = video.camera.K.copy()
    closer[[0, 1], [0, 1]] *= _ZOOM
    truth = video.truth if frames is None else video.truth.take(list(frames))
    return replace(video, camera=replace(video.camera, K=closer), truth=truth).frames()
