"""Ray session of a command, by default on this machine."""

from __future__ import annotations

import logging
import os
import shlex
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psutil
import ray
from ray._private import services

from infra.settings import Settings

_OBJECT_STORE_SHARE = 0.1
_OBJECT_STORE_MAX_BYTES = 2 * 1024**3


@contextmanager
def ray_session(settings: Settings) -> Iterator[None]:
    """Provide Ray inside the block.

    If Ray is initialized already, it is used and left running. Otherwise the block connects to
    ``settings.ray_address``, or if that is None starts Ray on this machine; both end with the block. A local Ray has no
    dashboard, which saves 30 s at the start. Its object store has a tenth of the memory, at most 2 GiB, because only
    ids, paths and small records are sent through it.

    Raises:
        ConnectionError: Ray cannot be reached or started; the message names the address.
    """
    if ray.is_initialized():
        with _interrupt_at_sigterm(signal.getsignal(signal.SIGTERM)):
            yield
        return
    on_sigterm = signal.getsignal(signal.SIGTERM)
    try:
        if settings.ray_address:
            ray.init(address=settings.ray_address, log_to_driver=False, logging_level=logging.ERROR)
        else:
            memory = psutil.virtual_memory().total
            with _own_process_groups():
                ray.init(
                    num_cpus=os.cpu_count(),
                    include_dashboard=False,
                    object_store_memory=min(int(memory * _OBJECT_STORE_SHARE), _OBJECT_STORE_MAX_BYTES),
                    log_to_driver=False,
                    logging_level=logging.ERROR,
                    runtime_env=_quoted_python(),
                )
    except (ConnectionError, RuntimeError, ValueError) as error:
        where = settings.ray_address or "this machine"
        raise ConnectionError(f"Ray at {where} could not be reached: {error}; check RAY_ADDRESS or unset it") from error
    with _interrupt_at_sigterm(on_sigterm):
        try:
            yield
        finally:
            ray.shutdown()


class _GroupedPopen(services.ConsolePopen):
    """Process of Ray's that leads a process group of its own."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **(kwargs | {"process_group": 0}))


@contextmanager
def _own_process_groups() -> Iterator[None]:
    """Start Ray's processes in groups of their own inside the block.

    Prefect's worker cancels a run by a signal to the run's process group. If it ended Ray's processes at once, Ray
    would abort the flow before the flow has left its blocks. They end with the flow all the same: by ``ray.shutdown``,
    and if the flow is killed, by the kernel, as Ray ties them to their parent.
    """
    former = services.ConsolePopen
    services.ConsolePopen = _GroupedPopen  # type: ignore[misc]  # Ray has no setting for it
    try:
        yield
    finally:
        services.ConsolePopen = former  # type: ignore[misc]


@contextmanager
def _interrupt_at_sigterm(handler: Any) -> Iterator[None]:
    """Raise KeyboardInterrupt at SIGTERM inside the block, and call the former handler when the block has ended.

    Ray takes SIGTERM for itself and aborts the process, and while it waits it swallows every error of another handler
    but KeyboardInterrupt. So a flow that its worker cancels would go on until it is killed, or end without leaving its
    blocks.

    Args:
        handler: The handler before Ray was started; Ray's stays if it is none.
    """
    if not callable(handler) or threading.current_thread() is not threading.main_thread():
        yield
        return
    received: list[int] = []

    def interrupt(number: int, _frame: Any) -> None:
        received.append(number)
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    except KeyboardInterrupt:
        if received:
            handler(received[0], None)
        raise
    finally:
        signal.signal(signal.SIGTERM, handler)


def _quoted_python() -> dict[str, str]:
    """Return a runtime environment with the interpreter's path quoted if needed; Ray passes it to a shell unquoted."""
    quoted = shlex.quote(sys.executable)
    return {} if quoted == sys.executable else {"py_executable": quoted}
