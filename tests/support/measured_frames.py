"""Shot features of frames that are at hand all at once."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from pipelines.media.shot_features import ShotFeatureBuilder, ShotFeatures


def measure_frames(frames: Iterable[tuple[int, np.ndarray]]) -> ShotFeatures:
    """Measure frames: (index, RGB (36, 64, 3) uint8) each."""
    builder = ShotFeatureBuilder()
    for index, small in frames:
        builder.add(index, small)
    return builder.features()
