"""Ray session of a command, by default on this machine."""

from __future__ import annotations

import logging
import os
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import ray

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
        yield
        return
    try:
        if settings.ray_address:
            ray.init(address=settings.ray_address, log_to_driver=False, logging_level=logging.ERROR)
        else:
            memory = psutil.virtual_memory().total
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
    try:
        yield
    finally:
        ray.shutdown()


def _quoted_python() -> dict[str, str]:
    """Return a runtime environment with the interpreter's path quoted if needed; Ray passes it to a shell unquoted."""
    quoted = shlex.quote(sys.executable)
    return {} if quoted == sys.executable else {"py_executable": quoted}
