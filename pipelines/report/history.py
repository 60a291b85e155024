"""Trends over a corpus's snapshots: what each of them holds, and lines that show it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from mfhq.catalog import Catalog, CatalogError
from mfhq.store import StoreError

log = logging.getLogger(__name__)

MOST_SNAPSHOTS = 24
"""Largest number of snapshots of which the trends are shown, the newest."""
WIDTH, HEIGHT, MARGIN = 220, 56, 5
"""Size and margin of a trend, SVG user units."""

_MEASURES = (("videos", "Videos used"), ("tracks", "Tracks used"), ("faces", "Good faces"), ("identities", "People"))


@dataclass(frozen=True)
class SnapshotCounts:
    """Numbers of a snapshot's funnel."""

    version: str
    created_at: str
    used: dict[str, int]
    """Stage of the funnel to the number of its items that are used."""


@dataclass(frozen=True)
class Trend:
    """A line over the snapshots, laid out for drawing."""

    name: str
    points: str
    """Points of the line, as SVG has them."""
    last: tuple[float, float]
    """Position of the newest snapshot."""
    first_value: int
    last_value: int
    label: str
    """Description of the line, with the value of each snapshot."""


def read_history(catalog: Catalog, version: str) -> list[SnapshotCounts]:
    """Read the funnels of a snapshot and of those before it, oldest first; a damaged one is left out.

    Args:
        catalog: The corpus's snapshots.
        version: Name of the last snapshot.
    """
    counts = []
    names = catalog.versions()
    for name in names[: names.index(version) + 1][-MOST_SNAPSHOTS:]:
        try:
            snapshot = catalog.open(name)
            rows = snapshot.table("funnel", ["stage", "reason", "items"]).to_pylist()
        except (CatalogError, StoreError) as error:
            log.warning("%s is not in the trends: %s", name, error)
            continue
        used = {row["stage"]: row["items"] for row in rows if row["reason"] == "ok"}
        counts.append(SnapshotCounts(name, snapshot.manifest.created_at, used))
    return counts


def lay_out_trends(history: Sequence[SnapshotCounts]) -> list[Trend]:
    """Return a line for each measure that changed; none for fewer than two snapshots.

    Args:
        history: The snapshots, oldest first.
    """
    trends = []
    for stage, name in _MEASURES if len(history) > 1 else ():
        values = [counts.used.get(stage, 0) for counts in history]
        most = max(values)
        if not most:
            continue
        step = (WIDTH - 2 * MARGIN) / (len(values) - 1)
        at = [
            (round(MARGIN + i * step, 1), round(HEIGHT - MARGIN - value / most * (HEIGHT - 2 * MARGIN), 1))
            for i, value in enumerate(values)
        ]
        label = ", ".join(f"{counts.version} {value}" for counts, value in zip(history, values, strict=True))
        trends.append(
            Trend(name, " ".join(f"{x},{y}" for x, y in at), at[-1], values[0], values[-1], f"{name}: {label}")
        )
    return trends
