"""Ray session of a command, on this machine by default."""

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
    """Use the Ray that runs, or connect to ``settings.ray_address``, or start one on this machine and stop it after.

    The local one has no dashboard (30 s less at the start) and an object store of a tenth of the memory, at most
    2 GiB, since only ids, paths and small records travel through it.

    Raises:
        ConnectionError: The address does not answer; the message names it.
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
    """Quote the interpreter's path where it has a space: Ray hands it to a shell as it is."""
    quoted = shlex.quote(sys.executable)
    return {} if quoted == sys.executable else {"py_executable": quoted}
