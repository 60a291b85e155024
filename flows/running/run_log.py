"""Log of a Prefect run: log records of this project and the lines that it prints, from every thread."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

from prefect.context import FlowRunContext
from prefect.logging.handlers import APILogHandler

from infra.console import OURS, said

_LOGGERS = (said, *map(logging.getLogger, OURS))


class RunLogHandler(APILogHandler):
    """Handler that sends the records of every thread to one run of Prefect, which also has records without a run."""

    def __init__(self, flow_run_id: UUID) -> None:
        super().__init__(logging.INFO)
        self._flow_run_id = flow_run_id

    def prepare(self, record: logging.LogRecord) -> dict[str, Any]:
        """Return the record as Prefect's API expects it."""
        record.flow_run_id = self._flow_run_id
        prepared: dict[str, Any] = super().prepare(record)
        return prepared


@contextmanager
def run_log() -> Iterator[None]:
    """Send this project's log records and printed lines to the log of the current run of Prefect, inside the block.

    Outside of a run, and in a flow that such a flow calls, nothing changes: the calling run has the lines of both.
    """
    run = FlowRunContext.get()
    if run is None or run.flow_run is None or any(isinstance(h, RunLogHandler) for h in said.handlers):
        yield
        return
    handler = RunLogHandler(run.flow_run.id)
    levels = [logger.level for logger in _LOGGERS]
    for logger in _LOGGERS:
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        for logger, level in zip(_LOGGERS, levels, strict=True):
            logger.removeHandler(handler)
            logger.setLevel(level)
