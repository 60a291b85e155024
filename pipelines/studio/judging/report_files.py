"""The files of a report on rendered people: contact sheets, figures as JSON and as a table."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
COLUMNS, TILE = 10, 160
"""Images in a row of a contact sheet, and their side in pixels."""


def contact_sheet(images: Sequence[Image]) -> Image:
    """Return images side by side, ten in a row, black where the last row ends early."""
    tiles = [np.asarray(cv2.resize(i, (TILE, TILE), interpolation=cv2.INTER_AREA), np.uint8) for i in images]
    tiles += [np.zeros((TILE, TILE, 3), np.uint8)] * (-len(tiles) % COLUMNS)
    rows = [np.concatenate(tiles[i : i + COLUMNS], 1) for i in range(0, len(tiles), COLUMNS)]
    return np.concatenate(rows)


def write_report(folder: Path, sheets: Mapping[str, Sequence[Image]], figures: Mapping[str, Any]) -> None:
    """Write ``NAME.jpg`` for each sheet, ``report.json`` and ``report.md``.

    Args:
        folder: Folder; created if missing.
        sheets: Name → images; sheets without an image are left out.
        figures: Section → name → number, or → name → number of several sets.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, images in sheets.items():
        if images:
            _, data = cv2.imencode(".jpg", contact_sheet(images)[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 88])
            (folder / f"{name}.jpg").write_bytes(data.tobytes())
    (folder / "report.json").write_text(json.dumps(figures, indent=1) + "\n")
    (folder / "report.md").write_text(table(figures))


def table(figures: Mapping[str, Any]) -> str:
    """Return figures as Markdown, one table a section."""
    lines = []
    for section, rows in figures.items():
        columns = list(dict.fromkeys(key for row in rows.values() for key in row))
        lines += [f"## {section}", "", "| | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
        lines += [f"| {n} | " + " | ".join(_shown(row.get(c)) for c in columns) + " |" for n, row in rows.items()]
        lines.append("")
    return "\n".join(lines)


def _shown(value: float | None) -> str:
    return "" if value is None or np.isnan(value) else f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"
