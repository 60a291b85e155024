"""The threshold that belongs to an embedding model, from labelled pairs."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import norm

Scores = npt.NDArray[np.float64]

LEAST_PAIRS = 20
"""Of each kind: with fewer nothing can be said about their spread."""


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """What a calibration found; as JSON beside a pack's files."""

    threshold: float
    """Cosine distance under which two tracks are one person, on average over their pairs."""
    people: int
    """How many people the corpus was assumed to hold."""
    same_pairs: int
    other_pairs: int
    same_mean: float
    """Of cosine similarities, as are the next three."""
    same_spread: float
    other_mean: float
    other_spread: float
    missed: float
    """Share of one person's pairs that lie beyond the threshold."""
    false_per_track: float
    """Other people whom one picture is expected to match wrongly, among so many people."""
    equal_error: float
    """Where the share of missed pairs equals that of false ones."""

    def to_dict(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)


def calibrate(same: npt.ArrayLike, other: npt.ArrayLike, people: int = 10_000) -> Calibration:
    """Choose the threshold for a corpus of ``people``, from cosine similarities of labelled pairs.

    A track meets everybody else, so that a share of false pairs counts ``people`` times and a share of missed pairs
    once; the threshold has the least sum of the two. Both shares are those of the sample, or of a normal tail where
    the sample has none so far out, whichever is more.

    Raises:
        ValueError: fewer than ``LEAST_PAIRS`` of a kind, similarities that are none, or one person's pairs that are no
            more alike than those of different people.
    """
    one, two = _checked(same, "of one person"), _checked(other, "of different people")
    if one.mean() <= two.mean():
        raise ValueError(
            f"pairs of one person are no more alike ({one.mean():.3f}) than those of different people "
            f"({two.mean():.3f}); are the labels the right way round?"
        )
    grid = np.round(np.arange(-0.5, 1.0, 0.001), 3)
    missed, false = _share_below(one, grid), _share_below(-two, -grid)
    inside = (grid >= two.mean()) & (grid <= one.mean())
    cost = np.where(inside, people * false + missed, np.inf)
    best = int(np.argmin(cost))
    equal = int(np.argmin(np.abs(missed - false)))
    return Calibration(
        threshold=round(1 - float(grid[best]), 3),
        people=people,
        same_pairs=len(one),
        other_pairs=len(two),
        same_mean=round(float(one.mean()), 4),
        same_spread=round(float(one.std()), 4),
        other_mean=round(float(two.mean()), 4),
        other_spread=round(float(two.std()), 4),
        missed=float(f"{missed[best]:.3g}"),
        false_per_track=float(f"{people * false[best]:.3g}"),
        equal_error=round(float(max(missed[equal], false[equal])), 5),
    )


def labelled_pairs(unit: npt.NDArray[np.floating], who: npt.ArrayLike, most: int = 2_000_000) -> tuple[Scores, Scores]:
    """(same, other) cosine similarities of pairs of unit vectors (N, D) with a person each; at most so many, about."""
    _, person = np.unique(np.asarray(who), return_inverse=True)
    random = np.random.default_rng(0)
    n = len(person)
    if n * (n - 1) // 2 <= most:
        i, j = np.triu_indices(n, 1)
    else:
        i, j = random.integers(0, n, (2, most))
        order = np.argsort(person, kind="stable")  # neighbours in it: pairs of one person, which chance seldom draws
        ahead = [(order[:-k], order[k:]) for k in (1, 2, 3, 5, 8)]
        i, j = np.concatenate([i, *(a for a, _ in ahead)]), np.concatenate([j, *(b for _, b in ahead)])
        i, j = i[i != j], j[i != j]
    likeness = np.concatenate(
        [np.einsum("nd,nd->n", unit[i[a : a + 65_536]], unit[j[a : a + 65_536]]) for a in range(0, len(i), 65_536)]
        or [np.empty(0)]
    )
    same = person[i] == person[j]
    return likeness[same].astype(np.float64), likeness[~same].astype(np.float64)


def _checked(scores: npt.ArrayLike, what: str) -> Scores:
    values = np.asarray(scores, np.float64)
    if len(values) < LEAST_PAIRS:
        raise ValueError(f"{len(values)} pairs {what}; a calibration needs {LEAST_PAIRS} of a kind, better thousands")
    odd = values[~(np.abs(values) <= 1.001)]  # NaN too
    if len(odd):
        raise ValueError(f"pairs {what}: a cosine similarity of {odd[0]}; it must be from -1 to 1")
    return values


def _share_below(scores: Scores, grid: Scores) -> Scores:
    """Share of scores below each value: the sample's, or that of a normal distribution like it, if it is more."""
    counted = np.searchsorted(np.sort(scores), grid) / len(scores)
    return np.maximum(counted, norm.cdf(grid, scores.mean(), max(float(scores.std()), 1e-3)))
