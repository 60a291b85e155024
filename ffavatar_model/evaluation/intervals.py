"""Means of people, with confidence intervals by resampling people: pictures of one person are not independent."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Statistic = Callable[[NDArray[np.float64]], float]


@dataclass(frozen=True)
class Interval:
    """A statistic over people, with a percentile bootstrap interval."""

    value: float
    low: float
    high: float
    n: int
    """People."""


def bootstrap(
    values: Sequence[float],
    statistic: Statistic = lambda x: float(np.mean(x)),
    level: float = 0.95,
    n: int = 2000,
    seed: int = 0,
) -> Interval:
    """The statistic of one value a person, resampled ``n`` times (Efron 1979); not-a-numbers are left out.

    Raises ``ValueError`` where no value is left.
    """
    kept = np.asarray([v for v in values if np.isfinite(v)], np.float64)
    if not len(kept):
        raise ValueError("no finite value to average")
    g = np.random.default_rng(seed)
    drawn = [statistic(kept[g.integers(len(kept), size=len(kept))]) for _ in range(n)] if len(kept) > 1 else [np.nan]
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return Interval(statistic(kept), float(low), float(high), len(kept))


def summarise(
    rows: Iterable[Mapping[str, Any]], by: Sequence[str], metrics: Sequence[str], person: str = "person"
) -> list[dict[str, Any]]:
    """Rows of single pictures → one row for each combination of ``by``: an interval for each metric that occurs.

    A person's pictures are averaged first, so that everybody counts once.
    """
    groups: dict[tuple[Any, ...], dict[str, list[Mapping[str, Any]]]] = {}
    for row in rows:
        key = tuple(row.get(name) for name in by)
        groups.setdefault(key, {}).setdefault(str(row[person]), []).append(row)
    table = []
    for key, people in groups.items():
        found: dict[str, Any] = dict(zip(by, key, strict=True))
        for metric in metrics:
            means = []
            for pictures in people.values():
                values = [float(r[metric]) for r in pictures if r.get(metric) is not None and np.isfinite(r[metric])]
                means += [float(np.mean(values))] if values else []
            if means:
                found[metric] = bootstrap(means)
        table.append(found)
    return table
