"""One pass over a video's frames: features of every frame, and the sampled frames, on which faces are looked for.

The sampled frames do not depend on the shots, which are known only at the end. They are the first frame, the first
after every hard cut (which the four frames after it decide), and as many in between as the rate asks for.
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
"""Tolerance of time stamps, seconds: containers round them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SurveyConfig:
    """Rate of the sampled frames, and thresholds of the hard cuts."""

    per_second: float = 5.0
    """Least number of frames sampled for a second of video, where the video has them."""
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
    """True for the first frame of the video and for the first after a hard cut."""


class Surveyor:
    """A reader of a video's frames: ``sample`` yields the sampled ones, then ``features`` returns those of all."""

    def __init__(self, config: SurveyConfig) -> None:
        self._config = config
        self._features = ShotFeatureBuilder()

    def sample(self, frames: Iterable[tuple[int, float, npt.NDArray[np.uint8]]]) -> Iterator[SampledFrame]:
        """Yield the sampled frames.

        No two sampled neighbours are further apart than the rate allows, unless the video has no frame in between: a
        variable frame rate is sampled by time.

        Args:
            frames: (index, time in seconds, (H, W, 3) RGB), ascending.
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
