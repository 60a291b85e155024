"""Which frames of a video are looked at."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt


def sample_frames(times_s: npt.NDArray[np.float64], spans: Iterable[tuple[int, int]], per_second: float) -> list[int]:
    """Frame numbers, ascending: the first of every span, then each as far on as ``per_second`` allows.

    ``times_s`` (n,) are the presentation times of frames 0 to n - 1, ascending; ``spans`` are (start, end) of shots,
    end exclusive. No two sampled neighbours of a span are further apart than ``1 / per_second`` seconds, unless the
    video itself has no frame in between: so a variable frame rate is sampled by time, not by count.
    """
    period = 1.0 / per_second + 1e-3  # a millisecond of slack: containers round their time stamps
    sampled = []
    for start, end in spans:
        frame, end = start, min(end, len(times_s))
        while frame < end:
            sampled.append(frame)
            last_in_reach = int(np.searchsorted(times_s, times_s[frame] + period, side="right")) - 1
            if times_s[end - 1] < times_s[frame] + period - 2e-3:
                break  # what is left of the span is nearer than a period
            frame = max(frame + 1, last_in_reach)
    return sampled
