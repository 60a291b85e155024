"""Comparison of two shots by the hashes of their frames: does one show what the other shows, at the same pace?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipelines.media.frame_hash import Hashes

MAX_DISTANCE = 9.0
"""Upper bound on the mean number of bits in which the frames of two copies differ, of 64 (docs/mining.md)."""
LEAST_FRAMES = 5
"""Least number of frames at the same time in both shots."""
LEAST_SHARE = 0.6
"""Least share of the shorter shot's frames that are at the same time in both."""
LEAST_AGREEMENT = 0.35
"""Least correlation of the bits that change over time; without it, two parts of one take are copies."""
STILL_CHANGES = 0.5
"""Mean number of changing bits (variance, of 64) below which a shot is still, and the correlation says nothing."""
_TIME_SLACK_S = 0.13


@dataclass(frozen=True, eq=False)
class HashedShot:
    """Hashes of the sampled frames of one shot."""

    times_s: npt.NDArray[np.float64]
    """(N,) times, ascending, seconds."""
    hashes: Hashes
    """(N, 8) hashes of each frame (``media.frame_hash.WINDOWS``)."""


@dataclass(frozen=True)
class ShotMatch:
    """Result of a comparison of two shots."""

    distance: float
    """Mean number of differing bits of frames at the same time, 0 to 64."""
    agreement: float
    """Correlation of the changing bits, -1 to 1; 1 if the shot is still."""
    share: float
    """Share of the shorter shot's frames that are at the same time in both."""
    n_frames: int
    """Number of frames at the same time."""

    @property
    def is_copy(self) -> bool:
        """True if one shot is a copy of the other or of a part of it."""
        return (
            self.distance <= MAX_DISTANCE
            and self.agreement >= LEAST_AGREEMENT
            and self.share >= LEAST_SHARE
            and self.n_frames >= LEAST_FRAMES
        )


def compare_shots(one: HashedShot, other: HashedShot, offsets_s: Sequence[float]) -> ShotMatch | None:
    """Compare two shots at some offsets in time.

    Args:
        one: A shot.
        other: Another shot.
        offsets_s: Times to add to those of ``other`` to get those of ``one``, seconds.

    Returns:
        The comparison at the offset and with the part of the picture that differ least; None if the shots share less
        than two frames at every offset.
    """
    found: list[ShotMatch] = []
    for offset in offsets_s:
        times = other.times_s + offset
        nearest = _nearest(one.times_s, times)
        at = np.flatnonzero(np.abs(one.times_s[nearest] - times) <= _TIME_SLACK_S)
        if len(at) >= 2:
            share = len(at) / min(len(one.times_s), len(times))
            found.append(_compare(one.hashes[nearest[at]], other.hashes[at], share))
    long_enough = [match for match in found if match.share >= LEAST_SHARE] or found
    return min(long_enough, key=lambda match: (match.distance - 4 * match.agreement, -match.share), default=None)


def _compare(a: Hashes, b: Hashes, share: float) -> ShotMatch:
    """Compare (N, 8) hashes of frames at the same time: the whole picture of one with the nearest part of the other."""
    whole_a = np.bitwise_count(a[:, :1] ^ b).mean(axis=0)
    whole_b = np.bitwise_count(a ^ b[:, :1]).mean(axis=0)
    part = int(min(whole_a.argmin(), whole_b.argmin(), key=lambda n: min(whole_a[n], whole_b[n])))
    a, b = (a[:, 0], b[:, part]) if whole_a[part] <= whole_b[part] else (a[:, part], b[:, 0])
    bits_a, bits_b = _bits(a), _bits(b)
    moving_a, moving_b = bits_a - bits_a.mean(axis=0), bits_b - bits_b.mean(axis=0)
    changes = np.array([(moving * moving).sum() for moving in (moving_a, moving_b)])
    still = changes.max() < STILL_CHANGES * len(a)
    agreement = 1.0 if still else float((moving_a * moving_b).sum() / max(np.sqrt(changes.prod()), 1e-9))
    return ShotMatch(float(min(whole_a[part], whole_b[part])), agreement, share, len(a))


def _bits(hashes: Hashes) -> npt.NDArray[np.float32]:
    """Return (N, 64) zeros and ones."""
    return np.unpackbits(np.ascontiguousarray(hashes).view(np.uint8).reshape(-1, 8), axis=1).astype(np.float32)


def _nearest(sorted_times: npt.NDArray[np.float64], times: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Return the index of the nearest of ``sorted_times`` for each time."""
    right = np.clip(np.searchsorted(sorted_times, times), 1, max(len(sorted_times) - 1, 1))
    right = np.minimum(right, len(sorted_times) - 1)
    left = np.maximum(right - 1, 0)
    return np.where(times - sorted_times[left] <= sorted_times[right] - times, left, right)
