"""Means over people with confidence intervals.

People are resampled, not images, because images of one person are not independent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Statistic = Callable[[NDArray[np.float64]], float]
"""Function of a sample of values: (n,) → a number."""


@dataclass(frozen=True)
class Interval:
    """A statistic over people, with a percentile bootstrap interval."""

    value: float
    low: float
    high: float
    n: int
    """Number of people."""


def bootstrap(
    values: Sequence[float],
    statistic: Statistic = lambda x: float(np.mean(x)),
    level: float = 0.95,
    n: int = 2000,
    seed: int = 0,
) -> Interval:
    """Compute a statistic with a percentile bootstrap interval (Efron 1979).

    Args:
        values: One value per person; values that are not finite are left out.
        statistic: Function of the values; the mean by default.
        level: Coverage of the interval, 0 to 1.
        n: Number of resamples.
        seed: Seed of the resampling.

    Raises:
        ValueError: No finite value is left.
    """
    finite = np.asarray([v for v in values if np.isfinite(v)], np.float64)
    if not len(finite):
        raise ValueError("no finite value to average")
    g = np.random.default_rng(seed)
    resampled = [np.nan]
    if len(finite) > 1:
        resampled = [statistic(finite[g.integers(len(finite), size=len(finite))]) for _ in range(n)]
    low, high = np.quantile(resampled, [(1 - level) / 2, (1 + level) / 2])
    return Interval(statistic(finite), float(low), float(high), len(finite))


def summarise(
    rows: Iterable[Mapping[str, Any]], by: Sequence[str], metrics: Sequence[str], person: str = "person"
) -> list[dict[str, Any]]:
    """Average metrics of images, with confidence intervals over people.

    The images of each person are averaged first, so that all people have equal weight.

    Args:
        rows: One row per image.
        by: Columns to group by.
        metrics: Columns to average.
        person: Column with the person's id.

    Returns:
        One row for each combination of values of ``by``, with these values and an ``Interval`` for each metric that has
        a finite value.
    """
    groups: dict[tuple[Any, ...], dict[str, list[Mapping[str, Any]]]] = {}
    for row in rows:
        key = tuple(row.get(name) for name in by)
        groups.setdefault(key, {}).setdefault(str(row[person]), []).append(row)
    summary = []
    for key, people in groups.items():
        summary_row: dict[str, Any] = dict(zip(by, key, strict=True))
        for metric in metrics:
            means = []
            for images in people.values():
                values = [float(r[metric]) for r in images if r.get(metric) is not None and np.isfinite(r[metric])]
                means += [float(np.mean(values))] if values else []
            if means:
                summary_row[metric] = bootstrap(means)
        summary.append(summary_row)
    return summary
