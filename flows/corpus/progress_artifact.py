"""Progress of a run as a Prefect artifact: a bar, and a table of items, rate and failures by step."""

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
"""Least seconds between two updates of the artifact."""


class ProgressArtifact:
    """Artifact made in the task that works; any thread may report progress to it."""

    def __init__(self, title: str, every_s: float = EVERY_S) -> None:
        self._title, self._every_s = title, every_s
        self._steps: dict[str, StepProgress] = {}
        self._began = time.monotonic()
        self._written = self._began
        self._id = cast(UUID, create_progress_artifact(0.0, key="progress", description=title))

    def update(self, progress: StepProgress) -> None:
        """Record one step's progress, and update the artifact if it is time."""
        self._steps[progress.step] = progress
        if time.monotonic() - self._written >= self._every_s:
            self._write()

    def close(self) -> None:
        """Update the artifact with the last state."""
        self._write()

    def _write(self) -> None:
        self._written = time.monotonic()
        percent, text = progress_markdown(self._title, self._steps, self._written - self._began)
        try:
            update_progress_artifact(self._id, percent, text)
        except Exception as error:  # a server that does not answer for a while must not stop the run
            log.warning("progress artifact not written: %s", error)


def progress_markdown(title: str, steps: dict[str, StepProgress], seconds: float) -> tuple[float, str]:
    """Describe the steps' progress.

    Args:
        title: First line.
        steps: Progress by step.
        seconds: Time since the run began.

    Returns:
        Percent of all items, and the table in Markdown.
    """
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
