"""Formatting of numbers, sizes and reason codes in the report."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pipelines.publishing.reasons import REASONS

NONE = "–"
"""Text for a missing value."""
_MEANINGS = {reason.code: reason.meaning for reason in REASONS} | {"": "", "ok": "used by the corpus"}


def count(value: int | None) -> str:
    """Format an integer with thin spaces between thousands."""
    return NONE if value is None else f"{int(value):,}".replace(",", "\u202f")


def number(value: float | None, digits: int = 2) -> str:
    """Format a number with at most ``digits`` decimals, or without decimals from 1,000 on.

    Args:
        value: The number; None and NaN give a dash.
        digits: Largest number of decimals.
    """
    if value is None or value != value:
        return NONE
    return f"{round(value, digits) + 0.0:.6g}" if abs(value) < 1000 else count(round(value))


def percent(value: float | None) -> str:
    """Format a share as a percentage with one decimal."""
    return NONE if value is None else f"{100 * value:.1f} %"


def width(value: float | None) -> str:
    """Format a share as the width of a bar: a percentage, clamped to 0 to 100."""
    return f"{100 * min(max(value or 0.0, 0.0), 1.0):.2f}"


def seconds(value: float | None) -> str:
    """Format a duration, given in seconds, in a suitable unit."""
    if value is None or value != value:
        return NONE
    for limit, size, unit in ((1, 1e-3, "ms"), (120, 1, "s"), (7200, 60, "min")):
        if value < limit:
            return f"{number(value / size, 1)} {unit}"
    return f"{number(value / 3600, 1)} h"


def size(value: int | None) -> str:
    """Format a number of bytes in a suitable unit (powers of 1,000)."""
    if value is None:
        return NONE
    amount = float(value)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000:
            return f"{number(amount, 1)} {unit}"
        amount /= 1000
    return f"{number(amount, 1)} TB"


def basename(uri: str) -> str:
    """Return the last part of a URI."""
    return uri.rstrip("/").rsplit("/", 1)[-1]


def meaning(code: str) -> str:
    """Explain a reason code; an unknown code is the class of an error that a step raised."""
    return _MEANINGS.get(code, "a step raised this error; attempts.error has its traceback")


def tiles(headline: Mapping[str, Any]) -> list[dict[str, str]]:
    """Format the row of the query ``HEADLINE`` as the tiles of the page, each with name, value and note."""
    note = f"of {count(headline['faces_ok'])} good, {count(headline['faces'])} kept"
    entries = [
        ("Videos used", headline["videos_ok"], f"of {count(headline['videos'])}, {seconds(headline['seconds'])}"),
        ("Tracks used", headline["tracks_ok"], f"of {count(headline['tracks'])} in {count(headline['shots'])} shots"),
        ("Identities", headline["identities"], "people"),
        ("Faces chosen", headline["faces_chosen"], note),
    ]
    if headline["captures"]:
        entries.append(("Captures", headline["captures"], f"{count(headline['views'])} views"))
    return [{"name": name, "value": count(value), "note": note} for name, value, note in entries]


FILTERS: dict[str, Callable[..., str]] = {
    "count": count,
    "number": number,
    "percent": percent,
    "width": width,
    "seconds": seconds,
    "bytes": size,
    "basename": basename,
    "meaning": meaning,
}
"""Name of the filter in the templates → function."""
