"""Start of a flow from the command line, and what a flow opens by itself, as a Prefect worker has prepared nothing."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from contextvars import ContextVar
from typing import Any

from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate
from prefect.client.schemas.objects import ConcurrencyLeaseHolder
from prefect.concurrency.sync import concurrency
from prefect.context import FlowRunContext, TaskRunContext
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound
from prefect.settings import PREFECT_API_URL

from flows.running.run_log import run_log
from infra.ray_session import ray_session
from infra.settings import Settings, load_settings, quiet_services, setup_lock
from infra.shown_text import mask_logs, masked_errors
from infra.storage import open_store
from mfhq.ids import digest
from mfhq.manifest import check_formats
from mfhq.store import Store

LEASE_S = 60.0
"""Seconds after which Prefect's server gives a killed run's corpus to the next run."""

log = logging.getLogger(__name__)
_held: ContextVar[frozenset[str]] = ContextVar("held corpora", default=frozenset())


@contextmanager
def opened(home: str, with_ray: bool = True, corpus: str = "") -> Iterator[Settings]:
    """Open what a flow needs, and close it after the block: settings, logs without secrets, the corpus, and Ray.

    Log records and printed lines of the block go to the log of Prefect's run. Secrets in the message of an error that
    leaves the block are masked, because Prefect stores the message.

    Args:
        home: Folder of runs and logs; empty for the one that the environment sets (``infra.settings``).
        with_ray: False for a flow that starts Ray itself where it needs it.
        corpus: URI of the corpus that the flow changes: another run that changes it waits (``hold_corpus``); empty for
            a flow that changes none.

    Yields:
        The settings.
    """
    settings = load_settings(home or None)
    quiet_services(settings)
    mask_logs()
    with (
        masked_errors(),
        run_log(),
        hold_corpus(corpus) if corpus else nullcontext(),
        ray_session(settings) if with_ray else nullcontext(),
    ):
        yield settings


@contextmanager
def hold_corpus(corpus: str) -> Iterator[None]:
    """Keep other runs of Prefect's server from changing a corpus during the block; wait for the run that changes it.

    The limit is one of Prefect's global concurrency limits, which its page shows with the run that holds it. Runs
    without a server (``PREFECT_API_URL`` is not set), or of another server, do not wait: the corpus stays whole, and
    some work may be done twice. A flow that is called by a flow that holds the corpus does not wait, either.

    Args:
        corpus: URI of the corpus.
    """
    uri, run = open_store(corpus).uri, FlowRunContext.get()
    if run is None or run.flow_run is None or not PREFECT_API_URL.value() or uri in _held.get():
        yield
        return
    name = f"corpus-{digest(uri, 16)}"
    with get_client(sync_client=True) as client:
        try:
            if client.read_global_concurrency_limit_by_name(name).active_slots:
                log.info("waiting for the run that changes %s (limit %s)", uri, name)
        except ObjectNotFound:
            with suppress(ObjectAlreadyExists):  # another run was first
                client.create_global_concurrency_limit(GlobalConcurrencyLimitCreate(name=name, limit=1))
    holder = ConcurrencyLeaseHolder(type="flow_run", id=run.flow_run.id)
    # without a lease the work goes on: a second run does no harm
    with concurrency(name, lease_duration=LEASE_S, strict=True, holder=holder, raise_on_lease_renewal_failure=False):
        token = _held.set(_held.get() | {uri})
        try:
            yield
        finally:
            _held.reset(token)


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
