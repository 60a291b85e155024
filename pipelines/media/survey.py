"""One pass over a video's frames: features of every frame, and those frames on which faces are looked for.

Which frames those are does not depend on shots that are only known at the end: the first frame, the first after every
hard cut (which the four frames after it decide), and as many as the rate asks for in between.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pipelines.media.shot_features import FeatureGatherer, ShotFeatures, shrink
from pipelines.media.shots import CUT_REACH, ShotConfig, is_hard_cut

TIME_SLACK_S = 1e-3
"""Containers round their time stamps."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SurveyConfig:
    """What a survey looks for."""

    per_second: float = 5.0
    """At least so many frames a second of video are sampled, where the video has them."""
    shots: ShotConfig = field(default_factory=ShotConfig)

    def __post_init__(self) -> None:
        if not self.per_second > 0:
            raise ValueError(f"SurveyConfig.per_second is {self.per_second}; it must be positive")


class SampledFrame(NamedTuple):
    """A frame on which faces are looked for."""

    frame_index: int
    time_s: float
    rgb: npt.NDArray[np.uint8]
    """(H, W, 3)."""
    after_cut: bool
    """It is the first after a hard cut, or of all."""


class Surveyor:
    """Reads frames once, four of them held: ``sampled`` gives the sampled ones, ``features`` then those of all."""

    def __init__(self, config: SurveyConfig) -> None:
        self._config = config
        self._gatherer = FeatureGatherer()

    def sampled(self, frames: Iterable[tuple[int, float, npt.NDArray[np.uint8]]]) -> Iterator[SampledFrame]:
        """Of frames (index, time in seconds, RGB), ascending. No two sampled neighbours are further apart than the
        rate allows, unless the video has no frame in between: a variable frame rate is sampled by time."""
        waiting: deque[tuple[int, float, npt.NDArray[np.uint8]]] = deque()
        period = 1.0 / self._config.per_second + TIME_SLACK_S
        position, last_s = 0, -np.inf

        def settle(next_s: float | None) -> Iterator[SampledFrame]:
            nonlocal position, last_s
            index, time_s, rgb = waiting.popleft()
            cut = position == 0 or is_hard_cut(self._gatherer, position, self._config.shots)
            position += 1
            due = time_s - last_s >= period - 2 * TIME_SLACK_S or (next_s is not None and next_s - last_s > period)
            if cut or due:
                last_s = time_s
                yield SampledFrame(index, time_s, rgb, cut)

        for frame in frames:
            self._gatherer.add(frame[0], shrink(frame[2]))
            waiting.append(frame)
            if len(waiting) > CUT_REACH:
                yield from settle(waiting[1][1])
        while waiting:
            yield from settle(waiting[1][1] if len(waiting) > 1 else None)

    def features(self) -> ShotFeatures:
        """Of every frame that was read."""
        return self._gatherer.features()
