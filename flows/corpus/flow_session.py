"""Start of a flow from the command line, and what a flow opens by itself, as a Prefect worker has prepared nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

from prefect.context import FlowRunContext, TaskRunContext
from prefect.settings import PREFECT_API_URL

from infra.ray_session import ray_session
from infra.settings import Settings, load_settings, quiet_services, setup_lock
from infra.shown_text import mask_logs, masked_errors
from infra.storage import open_store
from mfhq.manifest import check_formats
from mfhq.store import Store


@contextmanager
def opened(home: str, with_ray: bool = True) -> Iterator[Settings]:
    """Open what a flow needs, and close it after the block: settings of the services, logs without secrets, and Ray.

    Secrets in the message of an error that leaves the block are masked, because Prefect stores the message.

    Args:
        home: Folder of runs and logs; empty for the one that the environment sets (``infra.settings``).
        with_ray: False for a flow that starts Ray itself where it needs it.

    Yields:
        The settings.
    """
    settings = load_settings(home or None)
    quiet_services(settings)
    mask_logs()
    with masked_errors(), ray_session(settings) if with_ray else nullcontext():
        yield settings


def open_corpus(uri: str) -> Store:
    """Open a corpus that a command will change or train on.

    Args:
        uri: URI of the corpus.

    Raises:
        StoreError: There can be no corpus at the URI.
        FormatError: A newer version of this project wrote one of its snapshots.
    """
    store = open_store(uri)
    check_formats(store)
    return store


def in_prefect() -> bool:
    """Return True inside a run of Prefect, and False where a flow's function was called without one."""
    return FlowRunContext.get() is not None or TaskRunContext.get() is not None


def call(called: Any, **parameters: Any) -> Any:
    """Call a flow or a task from a flow's function: as a run of Prefect, if the caller is one.

    Args:
        called: The flow or the task.
        parameters: Its parameters.
    """
    return (called if in_prefect() else called.fn)(**parameters)


def run_flow(called: Callable[..., Any], **parameters: Any) -> Any:
    """Run a flow from the command line, with Prefect's server, or without one with an embedded server.

    Embedded servers of two commands on one home start one after the other, since each migrates the same database.

    Args:
        called: The flow.
        parameters: Parameters of the flow; ``home`` is added.

    Returns:
        The flow's result.
    """
    settings = load_settings()
    if not PREFECT_API_URL.value():
        from prefect.server.api.server import SubprocessASGIServer  # takes seconds to import

        with setup_lock(settings.home, "prefect"):
            SubprocessASGIServer().start()
    return called(**parameters, home=str(settings.home))
