"""How far a run is, as a Prefect artifact: a bar, and beneath it items, rate, end and failures by step."""

from __future__ import annotations

import datetime
import logging
import time
from typing import cast
from uuid import UUID

from prefect.artifacts import create_progress_artifact, update_progress_artifact

from pipelines.engine.progress import StepProgress

log = logging.getLogger(__name__)

EVERY_S = 15.0
"""At most so often is the artifact written."""


class ProgressArtifact:
    """Made in the task that works, kept up to date from whichever thread reports progress."""

    def __init__(self, title: str, every_s: float = EVERY_S) -> None:
        self._title, self._every_s = title, every_s
        self._steps: dict[str, StepProgress] = {}
        self._began = time.monotonic()
        self._written = self._began
        self._id = cast(UUID, create_progress_artifact(0.0, key="progress", description=title))

    def update(self, progress: StepProgress) -> None:
        """Take in one step's progress."""
        self._steps[progress.step] = progress
        if time.monotonic() - self._written >= self._every_s:
            self._write()

    def close(self) -> None:
        """Write the last state."""
        self._write()

    def _write(self) -> None:
        self._written = time.monotonic()
        percent, text = render(self._title, self._steps, self._written - self._began)
        try:
            update_progress_artifact(self._id, percent, text)
        except Exception as error:  # a server that does not answer for a moment must not stop the run
            log.warning("progress artifact not written: %s", error)


def render(title: str, steps: dict[str, StepProgress], seconds: float) -> tuple[float, str]:
    """(percent, Markdown) of the steps' progress after so many seconds of this run."""
    done, total = (sum(getattr(p, name) for p in steps.values()) for name in ("done", "total"))
    percent = 100.0 * done / total if total else 0.0
    lines = [title, "", "| step | items | of | per minute | failed |", "|---|---|---|---|---|"]
    for p in steps.values():
        failed = ", ".join(f"{reason} {n}" for reason, n in p.failed.items()) or "none"
        lines.append(f"| {p.step} | {p.done} | {p.total} | {60 * p.done / max(seconds, 1e-3):.1f} | {failed} |")
    if 0 < done < total and seconds > 0:
        left = datetime.timedelta(seconds=round(seconds * (total - done) / done))
        lines += ["", f"about {left} to go"]
    return percent, "\n".join(lines)
