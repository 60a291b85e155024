"""Measurement of peak memory, for a command with all its processes and for this process alone."""

from __future__ import annotations

import contextlib
import resource
import sys
import threading
from pathlib import Path
from typing import Self

import psutil


class PeakMemory:
    """Peak memory of this process and its descendants together, sampled every two seconds while the block runs.

    Pages that processes share are counted once (proportional set size). The result is the attribute ``gib``.
    """

    def __init__(self) -> None:
        self.gib = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="memory", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        root = psutil.Process()
        while not self._stop.wait(2.0):
            total = 0
            for process in (root, *root.children(recursive=True)):
                with contextlib.suppress(psutil.Error):
                    total += process.memory_full_info().pss
            self.gib = max(self.gib, total / 2**30)


def peak_resident_bytes() -> int:
    """Return the peak resident memory of this process since its program started, bytes.

    On Linux the value comes from ``/proc``, where it is reset when a process starts a new program. On other systems it
    comes from ``getrusage``, whose value is not reset then.
    """
    status = Path("/proc/self/status")
    if status.exists():
        return int(status.read_text().split("VmHWM:")[1].split()[0]) * 1024
    scale = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale
