"""Memory that two processes share for frames: one writes them, the other copies them out.

A pipe copies a frame twice, in small pieces, and holds about one of 512 x 512 pixels: writer and reader take turns.
"""

from __future__ import annotations

import mmap
import os
import sys
import tempfile

import numpy as np
import numpy.typing as npt

SLOTS = 3
"""Frames that lie there at a time: while one is copied out, the next ones are decoded."""

Picture = npt.NDArray[np.uint8]


def open_frame_memory() -> int:
    """A file descriptor of an empty file that no folder lists: in memory on Linux, a temporary one elsewhere."""
    if sys.platform == "linux":
        return os.memfd_create("frames")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


class FrameMemory:
    """A view of the file, in slots of one frame each; it grows with the largest frame and never shrinks.

    Who may use a slot is agreed elsewhere: the writer fills one that the reader has told to be free.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._map: mmap.mmap | None = None

    def write(self, number: int, slot_bytes: int, pixels: Picture) -> None:
        """Put frame ``number`` (0, 1, ... of a call) of at most ``slot_bytes`` into its slot."""
        if os.fstat(self._descriptor).st_size < SLOTS * slot_bytes:
            os.ftruncate(self._descriptor, SLOTS * slot_bytes)
        np.copyto(self._slot(number, slot_bytes, pixels.shape), pixels)

    def read(self, number: int, slot_bytes: int, shape: tuple[int, ...]) -> Picture:
        """A copy of frame ``number``, of that shape."""
        return self._slot(number, slot_bytes, shape).copy()

    def close(self) -> None:
        """Let go of the memory and of the descriptor."""
        if self._map is not None:
            self._map.close()
            self._map = None
        os.close(self._descriptor)

    def _slot(self, number: int, slot_bytes: int, shape: tuple[int, ...]) -> Picture:
        if self._map is None or len(self._map) < SLOTS * slot_bytes:
            self._map = mmap.mmap(self._descriptor, os.fstat(self._descriptor).st_size)
        start = number % SLOTS * slot_bytes
        return np.frombuffer(self._map, np.uint8, int(np.prod(shape)), start).reshape(shape)
