"""Calibration of an embedding model: its clustering threshold, computed from labelled pairs."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import norm

Scores = npt.NDArray[np.float64]

MIN_PAIRS = 20
"""Least number of pairs of each kind; with fewer, their spread cannot be estimated."""


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Result of a calibration; stored as JSON beside a pack's files."""

    threshold: float
    """Cosine distance, on average over pairs, below which two groups of tracks are one person."""
    people: int
    """Number of people that the corpus was assumed to hold."""
    same_pairs: int
    other_pairs: int
    same_mean: float
    """Mean cosine similarity of the pairs of one person."""
    same_spread: float
    """Standard deviation of the cosine similarities of these pairs."""
    other_mean: float
    """Mean cosine similarity of the pairs of different people."""
    other_spread: float
    """Standard deviation of the cosine similarities of these pairs."""
    missed: float
    """Share of the pairs of one person whose distance exceeds the threshold."""
    false_per_track: float
    """Expected number of other people, among ``people``, whom one track matches wrongly."""
    equal_error: float
    """Equal error rate: share of missed pairs at the threshold at which the share of false pairs is the same."""

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain values."""
        return asdict(self)


def calibrate(same: npt.ArrayLike, other: npt.ArrayLike, people: int = 10_000) -> Calibration:
    """Choose the threshold for a corpus, from cosine similarities of labelled pairs.

    A track is compared with all other people, so the share of false pairs is weighted by ``people`` and the share of
    missed pairs by 1; the threshold minimizes the sum. Each share is the larger of two values: the share counted in the
    sample, and that of a normal distribution with the sample's mean and spread, since the sample may have no pairs so
    far out.

    Args:
        same: (P,) cosine similarities of pairs of one person.
        other: (Q,) cosine similarities of pairs of different people.
        people: Number of people in the corpus.

    Raises:
        ValueError: There are fewer than ``MIN_PAIRS`` pairs of a kind, a value is not a cosine similarity, or the pairs
            of one person are no more similar than those of different people.
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
    """Compute the cosine similarities of pairs of labelled vectors; if there are many, of a random sample of pairs.

    Args:
        unit: (N, D) unit vectors.
        who: (N,) person of each vector.
        most: Number of pairs above which a random sample of about this size is used.

    Returns:
        The similarities of pairs of one person, and those of pairs of different people.
    """
    _, person = np.unique(np.asarray(who), return_inverse=True)
    random = np.random.default_rng(0)
    n = len(person)
    if n * (n - 1) // 2 <= most:
        i, j = np.triu_indices(n, 1)
    else:
        i, j = random.integers(0, n, (2, most))
        order = np.argsort(person, kind="stable")  # adds pairs of one person, which random draws seldom hit
        ahead = [(order[:-k], order[k:]) for k in (1, 2, 3, 5, 8)]
        i, j = np.concatenate([i, *(a for a, _ in ahead)]), np.concatenate([j, *(b for _, b in ahead)])
        i, j = i[i != j], j[i != j]
    similarity = np.concatenate(
        [np.einsum("nd,nd->n", unit[i[a : a + 65_536]], unit[j[a : a + 65_536]]) for a in range(0, len(i), 65_536)]
        or [np.empty(0)]
    )
    same = person[i] == person[j]
    return similarity[same].astype(np.float64), similarity[~same].astype(np.float64)


def _checked(scores: npt.ArrayLike, what: str) -> Scores:
    values = np.asarray(scores, np.float64)
    if len(values) < MIN_PAIRS:
        raise ValueError(f"{len(values)} pairs {what}; a calibration needs {MIN_PAIRS} of a kind, better thousands")
    odd = values[~(np.abs(values) <= 1.001)]  # NaN too
    if len(odd):
        raise ValueError(f"pairs {what}: a cosine similarity of {odd[0]}; it must be from -1 to 1")
    return values


def _share_below(scores: Scores, grid: Scores) -> Scores:
    """Return the share of scores below each value: the sample's or a normal distribution's, whichever is larger."""
    counted = np.searchsorted(np.sort(scores), grid) / len(scores)
    return np.maximum(counted, norm.cdf(grid, scores.mean(), max(float(scores.std()), 1e-3)))
