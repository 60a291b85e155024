"""How numbers are written in the report."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pipelines.publishing.reasons import REASONS

NONE = "–"
_MEANINGS = {reason.code: reason.meaning for reason in REASONS} | {"": "", "ok": "used by the corpus"}


def count(value: int | None) -> str:
    """A whole number with thin spaces between thousands."""
    return NONE if value is None else f"{int(value):,}".replace(",", "\u202f")


def number(value: float | None, digits: int = 2) -> str:
    """A number with at most ``digits`` decimals; none from 1,000 on."""
    if value is None or value != value:
        return NONE
    return f"{round(value, digits) + 0.0:.6g}" if abs(value) < 1000 else count(round(value))


def percent(value: float | None) -> str:
    """A share as per cent, one decimal."""
    return NONE if value is None else f"{100 * value:.1f} %"


def width(value: float | None) -> str:
    """A share as the width of a bar, in per cent, kept within 0 to 100."""
    return f"{100 * min(max(value or 0.0, 0.0), 1.0):.2f}"


def seconds(value: float | None) -> str:
    """A duration in the unit that fits it."""
    if value is None or value != value:
        return NONE
    for limit, size, unit in ((1, 1e-3, "ms"), (120, 1, "s"), (7200, 60, "min")):
        if value < limit:
            return f"{number(value / size, 1)} {unit}"
    return f"{number(value / 3600, 1)} h"


def size(value: int | None) -> str:
    """Bytes in the unit that fits them (powers of 1,000)."""
    if value is None:
        return NONE
    amount = float(value)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000:
            return f"{number(amount, 1)} {unit}"
        amount /= 1000
    return f"{number(amount, 1)} TB"


def basename(uri: str) -> str:
    """The last part of a URI."""
    return uri.rstrip("/").rsplit("/", 1)[-1]


def meaning(code: str) -> str:
    """What a reason code means; an error's class stands for itself."""
    return _MEANINGS.get(code, "a step raised this error; attempts.error has its traceback")


def tiles(headline: Mapping[str, Any]) -> list[dict[str, str]]:
    """The headline numbers, as the page shows them."""
    chosen = f"of {count(headline['faces_ok'])} good, {count(headline['faces'])} kept"
    shown = [
        ("Videos used", headline["videos_ok"], f"of {count(headline['videos'])}, {seconds(headline['seconds'])}"),
        ("Tracks used", headline["tracks_ok"], f"of {count(headline['tracks'])} in {count(headline['shots'])} shots"),
        ("Identities", headline["identities"], "people"),
        ("Faces chosen", headline["faces_chosen"], chosen),
    ]
    if headline["captures"]:
        shown.append(("Captures", headline["captures"], f"{count(headline['views'])} views"))
    return [{"name": name, "value": count(value), "note": note} for name, value, note in shown]


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
"""Under the names that the templates use."""
