"""Detection of the shots of a video, which are separated by hard cuts, fades through a blank frame, and dissolves.

The functions need only ``ShotFeatures`` and decode nothing. The rules:

- Hard cut: a frame differs from the previous frame, in pixels and in colours, much more than neighbouring frames around
  it differ from each other. A flash is not a cut: the frames before and after it are alike.
- Fade: the contrast decreases gradually to a blank frame, or increases from one.
- Dissolve: each frame of a segment is a blend of the segment's first and last frame, and the weights change linearly
  with its position.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from pipelines.media.shot_features import ShotFeatures

HARD, DISSOLVE, FADE, NONE = "hard", "dissolve", "fade", "none"
"""Kinds of transition at the beginning of a shot; ``NONE`` at the beginning of the video."""

CUT_REACH = 4
"""Number of frames before and after a frame that determine if it is the first after a hard cut."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ShotConfig:
    """Thresholds of the shot finder; grey levels range from 0 to 255."""

    cut_difference: float = 15.0
    """Smallest mean difference between the two frames at a hard cut, grey levels."""
    cut_histogram: float = 0.12
    """Smallest share of pixels that change colour at a hard cut."""
    cut_ratio: float = 2.2
    """Smallest ratio of the difference at a hard cut to the median difference of the frames around it."""
    blank_std: float = 3.0
    """Standard deviation of the luminance below which a frame is blank, grey levels."""
    ramp_frames: int = 3
    """Smallest number of frames over which the contrast of a fade changes."""
    blend_difference: float = 15.0
    """Smallest mean difference between the first and the last frame of a dissolve, grey levels."""
    blend_error: float = 0.12
    """Largest deviation of a dissolve's frames from the blend, as a share of the distance between its two ends."""
    blend_likeness: float = 0.8
    """Largest correlation between a dissolve's two ends; above it they show one scene in changing light."""

    def __post_init__(self) -> None:
        for name in ("cut_difference", "cut_ratio", "blank_std", "ramp_frames", "blend_difference", "blend_error"):
            if not getattr(self, name) > 0:
                raise ValueError(f"ShotConfig.{name} is {getattr(self, name)}; it must be positive")
        for name in ("cut_histogram", "blend_likeness"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"ShotConfig.{name} is {getattr(self, name)}; it must be from 0 to 1")


@dataclass(frozen=True, slots=True)
class Shot:
    """A shot of a video."""

    start_frame: int
    """Index of the first frame."""
    end_frame: int
    """Index of the last frame, plus one."""
    transition: str
    """Kind of the transition with which the shot begins: ``HARD``, ``DISSOLVE``, ``FADE`` or ``NONE``."""


def find_shots(features: ShotFeatures, config: ShotConfig | None = None) -> list[Shot]:
    """Find the shots of a video; the frames of a gradual transition belong to no shot.

    Args:
        features: Features of all frames of the video; if there are no frames, there are no shots.
        config: Thresholds; None means the defaults.

    Returns:
        The shots in order, with frame indices from ``features.index``.
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
    """Return the positions in ``features`` of the first frames after hard cuts.

    Args:
        features: Features of all frames of the video.
        config: Thresholds.
    """
    return [t for t in range(len(features)) if is_hard_cut(features, t, config)]


class FrameFeatures(Protocol):
    """Features by position: ``ShotFeatures``, or a ``ShotFeatureBuilder`` that is ``CUT_REACH`` frames ahead."""

    @property
    def difference(self) -> Sequence[float] | npt.NDArray[np.float32]:
        """Difference from the previous frame, as in ``ShotFeatures``."""
        ...

    @property
    def histogram(self) -> Sequence[float] | npt.NDArray[np.float32]:
        """Change of the colour histogram, as in ``ShotFeatures``."""
        ...

    @property
    def thumbs(self) -> Any:
        """Thumbnails, as in ``ShotFeatures``."""
        ...


def is_hard_cut(features: FrameFeatures, t: int, config: ShotConfig) -> bool:
    """Return True if a hard cut lies before the frame at a position; the ``CUT_REACH`` frames on both sides decide.

    Args:
        features: Features that include these frames.
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
    """Return True if frame ``t`` belongs to a flash.

    That is the case if frame ``t - 1`` resembles one of frames ``t + 1`` to ``t + 3``, or if frame ``t`` resembles one
    of frames ``t - 4`` to ``t - 2``.
    """
    after = thumbs[t + 1 : t + 4]
    earlier = thumbs[max(0, t - 4) : t - 1]
    returns = np.abs(after - thumbs[t - 1]).mean(axis=(1, 2, 3)) if len(after) else np.array([np.inf])
    precedes = np.abs(earlier - thumbs[t]).mean(axis=(1, 2, 3)) if len(earlier) else np.array([np.inf])
    return bool(min(returns.min(), precedes.min()) < 0.3 * difference)


def find_fades(features: ShotFeatures, config: ShotConfig) -> list[tuple[int, int]]:
    """Find the fades: runs of blank frames with the ramps of contrast on both sides.

    Args:
        features: Features of all frames of the video.
        config: Thresholds.

    Returns:
        (position of the first frame, that of the last plus one) of each fade.
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
        features: Features of all frames of the video.
        config: Thresholds.
        boundaries: Positions, ascending, that no dissolve may span.

    Returns:
        (position of the first blended frame, that of the last plus one) of each dissolve.
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
    """Return True if frame k of a segment (K + 1, D) lies about k / K of the way from the first frame to the last."""
    line = segment[-1] - segment[0]
    squared_length = float(line @ line)
    offset = segment - segment[0]
    share = offset @ line / squared_length
    if np.abs(share - np.linspace(0, 1, len(segment))).max() > error:
        return False
    rest = offset - share[:, None] * line
    return bool(np.sqrt((rest * rest).sum(axis=1).max() / squared_length) <= error)


def _runs(mask: npt.NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Return (start, end) of each run of True; the end is exclusive."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(np.int8)))
    return [(int(a), int(b)) for a, b in edges.reshape(-1, 2)]
