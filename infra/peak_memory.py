"""Peak memory: of a command with all its processes, and of this process alone."""

from __future__ import annotations

import contextlib
import resource
import sys
import threading
from pathlib import Path
from typing import Self

import psutil


class PeakMemory:
    """Most memory that this process and those below it used together while the block ran, sampled every two seconds.

    Pages that processes share are counted once (proportional set size).
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
    """Return the most memory that this process had resident since its program started.

    Linux resets the count in ``/proc`` for a new program; that of ``getrusage``, used elsewhere, it does not reset.
    """
    status = Path("/proc/self/status")
    if status.exists():
        return int(status.read_text().split("VmHWM:")[1].split()[0]) * 1024
    scale = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale
