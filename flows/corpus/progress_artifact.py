"""Progress of a run as a Prefect artifact: a bar, and a table with the items, rate and failures of each step."""

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
"""Shortest time between two updates of the artifact, seconds."""


class ProgressArtifact:
    """Prefect artifact of a run's progress; any thread of the process may report progress to it."""

    def __init__(self, title: str, every_s: float = EVERY_S) -> None:
        self._title, self._every_s = title, every_s
        self._steps: dict[str, StepProgress] = {}
        self._began = time.monotonic()
        self._written = self._began
        self._id = cast(UUID, create_progress_artifact(0.0, key="progress", description=title))

    def update(self, progress: StepProgress) -> None:
        """Record one step's progress, and update the artifact if the last update is old enough."""
        self._steps[progress.step] = progress
        if time.monotonic() - self._written >= self._every_s:
            self._write()

    def close(self) -> None:
        """Update the artifact a last time."""
        self._write()

    def _write(self) -> None:
        self._written = time.monotonic()
        percent, text = progress_markdown(self._title, self._steps, self._written - self._began)
        try:
            update_progress_artifact(self._id, percent, text)
        except Exception as error:  # the run must not stop if the server does not answer for a while
            log.warning("progress artifact not written: %s", error)


def progress_markdown(title: str, steps: dict[str, StepProgress], seconds: float) -> tuple[float, str]:
    """Describe the progress of a run's steps.

    Args:
        title: First line of the text.
        steps: Progress by the name of the step.
        seconds: Time since the run began, seconds.

    Returns:
        Percentage of all items that are done, and the text with the table, in Markdown.
    """
    done, total = sum(p.done + p.in_work for p in steps.values()), sum(p.total for p in steps.values())
    percent = 100.0 * done / total if total else 0.0
    lines = [title, "", "| step | items | of | per minute | failed |", "|---|---|---|---|---|"]
    for p in steps.values():
        failed = ", ".join(f"{reason} {n}" for reason, n in p.failed.items()) or "none"
        count = f"{p.done + p.in_work:.2f}" if p.in_work else str(p.done)
        rate = f"{60 * p.done / max(seconds, 1e-3):.1f}"
        lines.append(f"| {p.step} | {count} | {p.total} | {rate} | {failed} |")
    if 0 < done < total and seconds > 0:
        left = datetime.timedelta(seconds=round(seconds * (total - done) / done))
        lines += ["", f"about {left} to go"]
    return percent, "\n".join(lines)
