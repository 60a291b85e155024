"""Retries of tasks by the kind of failure: what may pass by itself is tried again, what would recur is not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pipelines.engine.ray_data import NodeLost

RETRIES = 2
"""Further attempts at a task after failures that may pass by themselves."""
DELAYS_S = [10, 60]
"""Seconds before each further attempt."""


def may_pass(error: BaseException | None) -> bool:
    """Return True for the failures of a network, a service or a machine, which may be over at the next attempt.

    Args:
        error: The error that ended a task, with the errors behind it; None for none.
    """
    from botocore.exceptions import ConnectionError as S3ConnectionError
    from botocore.exceptions import HTTPClientError

    passing = (ConnectionError, TimeoutError, NodeLost, S3ConnectionError, HTTPClientError)
    return any(isinstance(behind, passing) for behind in _chain(error))


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and the errors that caused it."""
    while error is not None:
        yield error
        error = error.__cause__


def _retry(_task: Any, _run: Any, state: Any) -> bool:
    """Tell Prefect if a task that ended in this state is to be tried again."""
    result = state.result(raise_on_failure=False)
    return may_pass(result if isinstance(result, BaseException) else None)


RETRIED: dict[str, Any] = {"retries": RETRIES, "retry_delay_seconds": DELAYS_S, "retry_condition_fn": _retry}
"""Options of a task that continues from the corpus when it is tried again."""
