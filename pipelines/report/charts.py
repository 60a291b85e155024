"""Geometry of the histograms that the template draws as inline SVG; positions are in SVG user units, y down."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

WIDTH, HEIGHT = 360, 190
"""Size of a chart, SVG user units."""
_LEFT, _RIGHT, _TOP, _BOTTOM = 38, 18, 10, 26
_LEAST_BINS = 6
"""Number of bins for which there is room at least, so that one bin does not fill the plot."""


@dataclass(frozen=True, kw_only=True)
class Bar:
    """One bin, drawn as two stacked bars: the faces that the corpus uses, and above them the other faces."""

    x: float
    """Left edge of the bars."""
    width: float
    """Width of the bars."""
    used_y: float
    """Upper edge of the bar of used faces."""
    used_height: float
    """Height of the bar of used faces."""
    unused_y: float
    """Upper edge of the bar of the other faces."""
    unused_height: float
    """Height of the bar of the other faces."""
    label: str
    """Description of the bin, with its counts."""


@dataclass(frozen=True, kw_only=True)
class Tick:
    """A label of an axis."""

    at: float
    """Position along the axis."""
    text: str
    """Text of the label."""


@dataclass(frozen=True, kw_only=True)
class Histogram:
    """A stacked histogram, laid out for drawing."""

    title: str
    """Name of the counted value."""
    unit: str
    """Unit of the horizontal axis."""
    bars: tuple[Bar, ...]
    """Bins from left to right."""
    x_ticks: tuple[Tick, ...]
    """Labels of the horizontal axis."""
    y_ticks: tuple[Tick, ...]
    """Labels of the vertical axis."""
    total: int
    """Number of items in all bins."""
    counted: str = "faces"
    """Name of the counted items."""
    left: float = _LEFT
    """Left edge of the plot."""
    right: float = WIDTH - _RIGHT
    """Right edge of the plot."""
    base: float = HEIGHT - _BOTTOM
    """Lower edge of the plot."""
    width: float = WIDTH
    """Width of the chart."""
    height: float = HEIGHT
    """Height of the chart."""


def histogram(
    title: str,
    unit: str,
    rows: Sequence[Mapping[str, Any]],
    step: float,
    label: Callable[[float], str] = lambda value: f"{value:g}",
    counted: str = "faces",
) -> Histogram:
    """Lay out a histogram with bins of equal width.

    Args:
        title: Name of the counted value.
        unit: Unit of the horizontal axis.
        rows: One row per bin, in any order, with ``low`` (lower edge of the bin) and the counts ``used`` and
            ``unused``.
        step: Width of a bin.
        label: Function that formats an edge of a bin.
        counted: Name of the counted items.
    """
    counts = {round(row["low"] / step): (int(row["used"]), int(row["unused"])) for row in rows}
    if not counts:
        return Histogram(title=title, unit=unit, bars=(), x_ticks=(), y_ticks=(), total=0, counted=counted)
    first, last = min(counts), max(counts)
    bin_width = (WIDTH - _LEFT - _RIGHT) / max(last - first + 1, _LEAST_BINS)
    top = _round_up(max(used + unused for used, unused in counts.values()))
    tall = HEIGHT - _TOP - _BOTTOM
    base = HEIGHT - _BOTTOM
    bars = []
    for index, (used, unused) in sorted(counts.items()):
        used_height, unused_height = tall * used / top, tall * unused / top
        bars.append(
            Bar(
                x=round(_LEFT + (index - first) * bin_width + 0.5, 2),
                width=round(max(bin_width - 1, 0.5), 2),
                used_y=round(base - used_height, 2),
                used_height=round(used_height, 2),
                unused_y=round(base - used_height - unused_height, 2),
                unused_height=round(unused_height, 2),
                label=f"{label(index * step)} to {label((index + 1) * step)} {unit}: {used} used, {unused} not",
            )
        )
    every = next(n for n in (1, 2, 4, 5, 10, 20, 50, 100, 10**9) if (last - first + 1) / n <= 7)
    x_ticks = tuple(
        Tick(at=round(_LEFT + (index - first) * bin_width, 2), text=label(index * step))
        for index in range(-(-first // every) * every, last + 2, every)
    )
    y_ticks = tuple(Tick(at=round(base - tall * part, 2), text=_short(top * part)) for part in (0.0, 0.5, 1.0))
    total = sum(used + unused for used, unused in counts.values())
    return Histogram(
        title=title, unit=unit, bars=tuple(bars), x_ticks=x_ticks, y_ticks=y_ticks, total=total, counted=counted
    )


def _short(value: float) -> str:
    """Format a count of an axis, with k or M for thousands or millions."""
    for size, unit in ((1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:g}{unit}"
    return f"{value:g}"


def _round_up(value: int) -> int:
    """Return the smallest round number that is at least the value: 2, 3, 4, 5, 6, 8 or 10, times a power of ten."""
    scale = 1
    while True:
        for part in (2, 3, 4, 5, 6, 8, 10):
            if value <= part * scale:
                return part * scale
        scale *= 10
