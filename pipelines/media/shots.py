"""Shots of a video: its hard cuts, fades through a blank frame, and dissolves.

Pure functions of ``ShotFeatures``; nothing is decoded here. The rules:

- hard cut: a frame differs from the one before by much more than its neighbours differ from theirs, in pixels and in
  colours; a flash (the frames on both sides are alike) is no cut;
- fade: the contrast ramps down to a blank frame, or up from one;
- dissolve: in a segment of frames, each frame is a blend of the segment's ends, with weights that follow its position.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from pipelines.media.shot_features import ShotFeatures

HARD, DISSOLVE, FADE, NONE = "hard", "dissolve", "fade", "none"

CUT_REACH = 4
"""Frames before and after a frame that decide whether it is the first after a hard cut."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ShotConfig:
    """Thresholds of the shot finder; grey levels are 0 to 255."""

    cut_difference: float = 15.0
    """Least mean difference of two frames at a hard cut, grey levels."""
    cut_histogram: float = 0.12
    """Least share of pixels that change colour at a hard cut."""
    cut_ratio: float = 2.2
    """Least ratio of a cut's difference to the median of those around it."""
    blank_std: float = 3.0
    """Standard deviation of the luminance below which a frame is blank, grey levels."""
    ramp_frames: int = 3
    """Least frames over which a fade's contrast ramps."""
    blend_difference: float = 15.0
    """Least mean difference of a dissolve's two ends, grey levels."""
    blend_error: float = 0.12
    """Largest deviation of a dissolve's frames from the blend, as a share of the ends' distance."""
    blend_likeness: float = 0.8
    """Largest correlation of a dissolve's two ends; above it they are one scene under a changing light."""

    def __post_init__(self) -> None:
        for name in ("cut_difference", "cut_ratio", "blank_std", "ramp_frames", "blend_difference", "blend_error"):
            if not getattr(self, name) > 0:
                raise ValueError(f"ShotConfig.{name} is {getattr(self, name)}; it must be positive")
        for name in ("cut_histogram", "blend_likeness"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"ShotConfig.{name} is {getattr(self, name)}; it must be from 0 to 1")


@dataclass(frozen=True, slots=True)
class Shot:
    """The frames ``start_frame`` to ``end_frame`` (exclusive); ``transition`` names how the shot begins."""

    start_frame: int
    end_frame: int
    transition: str


def find_shots(features: ShotFeatures, config: ShotConfig | None = None) -> list[Shot]:
    """Find the shots of a video; the frames of a gradual transition belong to none.

    Args:
        features: Of all frames of the video; without frames there are no shots.
        config: Thresholds; the defaults where None.

    Returns:
        The shots in order, with frame numbers as in ``features.index``.
    """
    config = config or ShotConfig()
    n = len(features)
    if not n:
        return []
    gradual = [(a, b, FADE) for a, b in find_fades(features, config)]
    cuts = [c for c in find_hard_cuts(features, config) if not any(a <= c <= b for a, b, _ in gradual)]
    blends = find_dissolves(features, config, boundaries=sorted([*cuts, *(a for a, _, _ in gradual)]))
    gradual += [(a, b, DISSOLVE) for a, b in blends if not any(a < fb and fa < b for fa, fb, _ in gradual)]
    shots: list[Shot] = []
    start, transition = 0, NONE
    for a, b, kind in [*sorted([*((c, c, HARD) for c in cuts), *gradual]), (n, n, NONE)]:
        if a > start:
            shots.append(Shot(int(features.index[start]), int(features.index[a - 1]) + 1, transition))
        start, transition = max(start, b), kind
    return shots


def find_hard_cuts(features: ShotFeatures, config: ShotConfig) -> list[int]:
    """Return the positions of the frames that begin a shot by a hard cut.

    Args:
        features: Of all frames.
        config: Thresholds.
    """
    return [t for t in range(len(features)) if is_hard_cut(features, t, config)]


class FrameFeatures(Protocol):
    """Features by position: ``ShotFeatures``, or a ``ShotFeatureBuilder`` that has read ``CUT_REACH`` frames more."""

    @property
    def difference(self) -> Sequence[float] | npt.NDArray[np.float32]:
        """See ``ShotFeatures.difference``."""
        ...

    @property
    def histogram(self) -> Sequence[float] | npt.NDArray[np.float32]:
        """See ``ShotFeatures.histogram``."""
        ...

    @property
    def thumbs(self) -> Any:
        """See ``ShotFeatures.thumbs``."""
        ...


def is_hard_cut(features: FrameFeatures, t: int, config: ShotConfig) -> bool:
    """Decide by the ``CUT_REACH`` frames on both sides whether a new shot begins at a position.

    Args:
        features: Features of at least these frames.
        t: Position in ``features``, from 0.
        config: Thresholds.
    """
    d = features.difference
    if d[t] < config.cut_difference or features.histogram[t] < config.cut_histogram:
        return False
    around = [*d[max(1, t - CUT_REACH) : t], *d[t + 1 : t + 1 + CUT_REACH]]
    if around and d[t] < config.cut_ratio * np.median(np.asarray(around, np.float32)):
        return False
    first = max(0, t - CUT_REACH)
    near = np.asarray(features.thumbs[first : t + CUT_REACH], np.int16)
    return not _is_flash(near, t - first, float(d[t]))


def _is_flash(thumbs: npt.NDArray[np.int16], t: int, difference: float) -> bool:
    """Return True when frame ``t - 1`` returns within three frames, or frame ``t`` was seen within the three before."""
    after = thumbs[t + 1 : t + 4]
    earlier = thumbs[max(0, t - 4) : t - 1]
    returns = np.abs(after - thumbs[t - 1]).mean(axis=(1, 2, 3)) if len(after) else np.array([np.inf])
    precedes = np.abs(earlier - thumbs[t]).mean(axis=(1, 2, 3)) if len(earlier) else np.array([np.inf])
    return bool(min(returns.min(), precedes.min()) < 0.3 * difference)


def find_fades(features: ShotFeatures, config: ShotConfig) -> list[tuple[int, int]]:
    """Return (first frame, one past the last) of each fade: a run of blank frames and the ramps on both sides.

    Args:
        features: Of all frames.
        config: Thresholds.
    """
    std = features.luma_std
    fades = []
    for a, b in _runs(std < config.blank_std):
        left, right = a, b
        while left > 1 and std[left - 1] > std[left] and std[left - 2] > std[left - 1] * 1.02:
            left -= 1
        while right < len(std) - 1 and std[right] > std[right - 1] and std[right + 1] > std[right] * 1.02:
            right += 1
        gradual = max(a - left, right - b) >= config.ramp_frames or (a - left) + (right - b) > config.ramp_frames
        if gradual and (left > 0 or right < len(std)):
            fades.append((left, right))
    return fades


def find_dissolves(features: ShotFeatures, config: ShotConfig, boundaries: list[int]) -> list[tuple[int, int]]:
    """Find the dissolves.

    Args:
        features: Of all frames.
        config: Thresholds.
        boundaries: Positions, ascending, that no dissolve may span.

    Returns:
        (first blended frame, one past the last) of each dissolve.
    """
    flat = features.thumbs.reshape(len(features), -1).astype(np.float32)
    normal = flat - flat.mean(axis=1, keepdims=True)
    normal /= np.linalg.norm(normal, axis=1, keepdims=True) + 1e-6
    blended = np.zeros(len(features), bool)
    section = np.searchsorted(np.asarray(boundaries), np.arange(len(features)), side="right")
    for length in (8, 12, 16, 24, 32, 48):
        if len(features) <= length:
            break
        changed = np.abs(flat[length:] - flat[:-length]).mean(axis=1) >= config.blend_difference
        unlike = (normal[length:] * normal[:-length]).sum(axis=1) <= config.blend_likeness
        undivided = section[length:] == section[:-length]
        for start in np.flatnonzero(changed & unlike & undivided):
            if _is_blend(flat[start : start + length + 1], config.blend_error):
                blended[start + 1 : start + length] = True
    return _runs(blended)


def _is_blend(segment: npt.NDArray[np.float32], error: float) -> bool:
    """Return True when frame k of K lies at k / K of the line from the first to the last, in (K + 1, D) pixels."""
    line = segment[-1] - segment[0]
    squared_length = float(line @ line)
    offset = segment - segment[0]
    share = offset @ line / squared_length
    if np.abs(share - np.linspace(0, 1, len(segment))).max() > error:
        return False
    rest = offset - share[:, None] * line
    return bool(np.sqrt((rest * rest).sum(axis=1).max() / squared_length) <= error)


def _runs(mask: npt.NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Return (start, end) of each run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(np.int8)))
    return [(int(a), int(b)) for a, b in edges.reshape(-1, 2)]
