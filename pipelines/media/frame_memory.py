"""Memory that two processes share for frames: one process writes frames into it, the other copies them out of it.

A pipe would copy each frame twice, in small pieces. It also holds only about one frame of 512 x 512 pixels, so writer
and reader would have to wait for each other.
"""

from __future__ import annotations

import mmap
import os
import sys
import tempfile

import numpy as np
import numpy.typing as npt

SLOTS = 3
"""Number of frames that the memory holds: while one is copied out, the next ones are decoded."""

Pixels = npt.NDArray[np.uint8]


def open_frame_memory() -> int:
    """Open an empty file without a name, on Linux in memory, and return its descriptor."""
    if sys.platform == "linux":
        return os.memfd_create("frames")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


class FrameMemory:
    """A view of the shared file, divided into slots of one frame; it grows with the largest frame and never shrinks.

    There is no lock, because the writer fills a slot only after the reader has copied the slot's frame
    (``decode_worker.py``).
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._map: mmap.mmap | None = None

    def write(self, number: int, slot_bytes: int, pixels: Pixels) -> None:
        """Write a frame into its slot.

        Args:
            number: Number of the frame within a call, from 0.
            slot_bytes: Size of a slot in bytes, at least the size of the frame.
            pixels: Pixels of the frame.
        """
        if os.fstat(self._descriptor).st_size < SLOTS * slot_bytes:
            os.ftruncate(self._descriptor, SLOTS * slot_bytes)
        np.copyto(self._slot(number, slot_bytes, pixels.shape), pixels)

    def read(self, number: int, slot_bytes: int, shape: tuple[int, ...]) -> Pixels:
        """Copy a frame out of its slot.

        Args:
            number: Number with which the frame was written.
            slot_bytes: Size of a slot in bytes with which the frame was written.
            shape: Shape of the frame.
        """
        return self._slot(number, slot_bytes, shape).copy()

    def close(self) -> None:
        """Release the memory and the descriptor."""
        if self._map is not None:
            self._map.close()
            self._map = None
        os.close(self._descriptor)

    def _slot(self, number: int, slot_bytes: int, shape: tuple[int, ...]) -> Pixels:
        if self._map is None or len(self._map) < SLOTS * slot_bytes:
            self._map = mmap.mmap(self._descriptor, os.fstat(self._descriptor).st_size)
        start = number % SLOTS * slot_bytes
        return np.frombuffer(self._map, np.uint8, int(np.prod(shape)), start).reshape(shape)
