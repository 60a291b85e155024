"""One pass over a video's frames: features of every frame, and sampled frames in which faces are to be detected.

The sampled frames cannot depend on the shots, which are known only at the end. They are the first frame, the first
frame after every hard cut (which is recognised four frames later), and as many frames in between as the rate requires.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pipelines.media.shot_features import ShotFeatureBuilder, ShotFeatures, shrink
from pipelines.media.shots import CUT_REACH, ShotConfig, is_hard_cut

TIME_SLACK_S = 1e-3
"""Tolerance for time stamps, seconds, because containers round them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SurveyConfig:
    """Rate of the sampled frames, and thresholds of the hard cuts."""

    per_second: float = 5.0
    """Smallest number of sampled frames per second, if the video has that many."""
    shots: ShotConfig = field(default_factory=ShotConfig)
    """Thresholds of the shot finder."""

    def __post_init__(self) -> None:
        if not self.per_second > 0:
            raise ValueError(f"SurveyConfig.per_second is {self.per_second}; it must be positive")


class SampledFrame(NamedTuple):
    """A frame in which faces are to be detected."""

    frame_index: int
    """Rank of the frame by presentation time, from 0."""
    time_s: float
    """Presentation time, seconds."""
    rgb: npt.NDArray[np.uint8]
    """(H, W, 3) RGB."""
    after_cut: bool
    """True for the first frame of the video and for the first frame after a hard cut."""


class Surveyor:
    """A reader of a video's frames: ``sample`` yields some frames, then ``features`` returns the features of all."""

    def __init__(self, config: SurveyConfig) -> None:
        self._config = config
        self._features = ShotFeatureBuilder()

    def sample(self, frames: Iterable[tuple[int, float, npt.NDArray[np.uint8]]]) -> Iterator[SampledFrame]:
        """Yield the sampled frames.

        Frames are chosen by time, so a variable frame rate is allowed: consecutive sampled frames are at most
        1 / ``per_second`` apart, unless the video has no frame in between.

        Args:
            frames: (index, time in seconds, (H, W, 3) RGB) of every frame, ascending.
        """
        waiting: deque[tuple[int, float, npt.NDArray[np.uint8]]] = deque()
        period = 1.0 / self._config.per_second + TIME_SLACK_S
        position, last_s = 0, -np.inf

        def sample_oldest(next_s: float | None) -> Iterator[SampledFrame]:
            nonlocal position, last_s
            index, time_s, rgb = waiting.popleft()
            cut = position == 0 or is_hard_cut(self._features, position, self._config.shots)
            position += 1
            due = time_s - last_s >= period - 2 * TIME_SLACK_S or (next_s is not None and next_s - last_s > period)
            if cut or due:
                last_s = time_s
                yield SampledFrame(index, time_s, rgb, cut)

        for frame in frames:
            self._features.add(frame[0], shrink(frame[2]))
            waiting.append(frame)
            if len(waiting) > CUT_REACH:
                yield from sample_oldest(waiting[1][1])
        while waiting:
            yield from sample_oldest(waiting[1][1] if len(waiting) > 1 else None)

    def features(self) -> ShotFeatures:
        """Return the shot features of every frame that was read."""
        return self._features.features()
