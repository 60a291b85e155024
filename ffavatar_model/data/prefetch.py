"""Prefetching: byte ranges read ahead by threads, batches loaded ahead by processes and put on the device by a thread.

A remote store answers late, and a batch takes a hundred answers; so each loader process begins to read all ranges of a
batch at once, and reads neighbouring ranges together.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from ffavatar_model.data.augment import prepare_batch
from ffavatar_model.data.batch import Batch, RawBatch
from ffavatar_model.data.sampling import SamplingConfig
from mfhq.byte_ranges import ByteRange, CoalescedRead, coalesce

ReadBlob = Callable[[str, int, int], bytes]
"""(uri relative to the corpus, offset, length) → the bytes."""

DEVICE = threading.RLock()
"""Held by every thread that uses the device beside the one that trains: while a CUDA graph is captured, nothing else
may run there."""

GAP, LONGEST = 128 << 10, 4 << 20
"""Bytes: ranges of one file that lie no farther apart are read as one, up to this length. A request of a remote store
costs as much as some hundred kilobytes, and a person's images lie beside one another."""


class RangeReader:
    """A ``ReadBlob`` that can begin to read announced ranges, up to ``at_once`` of them together.

    It can be pickled; reads that have begun stay behind.
    """

    def __init__(self, read_blob: ReadBlob, at_once: int) -> None:
        self.read_blob, self.at_once = read_blob, at_once
        self._pool: ThreadPoolExecutor | None = None
        self._begun: dict[ByteRange, tuple[CoalescedRead, Future[bytes]]] = {}
        """The read that covers a range, and its bytes."""

    def begin(self, ranges: Iterable[ByteRange]) -> None:
        """Begin to read ``ranges``; those announced before are forgotten. Does nothing with ``at_once=1``."""
        self._begun.clear()
        if self.at_once > 1:
            self._pool = self._pool or ThreadPoolExecutor(self.at_once, "reader")
            for read in coalesce(ranges, GAP, LONGEST):
                data = self._pool.submit(self.read_blob, read.path, read.begin, read.end - read.begin)
                self._begun.update((covered, (read, data)) for covered in read.ranges)

    def __call__(self, uri: str, offset: int, length: int) -> bytes:
        """Return the bytes of a range, announced or not; raises the error of reading it."""
        wanted = (uri, offset, length)
        if wanted not in self._begun:
            return self.read_blob(uri, offset, length)
        read, data = self._begun[wanted]
        return read.slice(data.result(), wanted)

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_pool": None, "_begun": {}}


def load_batches(data: Dataset[RawBatch], cursors: Sequence[list[int]], workers: int) -> Iterator[RawBatch]:
    """Load batches in processes of their own.

    Args:
        data: A data set that takes a list of cursors as its index.
        cursors: For each batch the places of its samples in the order of samples.
        workers: Number of processes; 0 loads in this one.

    Returns:
        The batches, in the order of ``cursors``; the processes have begun already.
    """
    return iter(
        DataLoader(
            data,
            sampler=cursors,
            batch_size=None,
            num_workers=workers,
            worker_init_fn=_use_one_thread,
            prefetch_factor=2 if workers else None,
            # a fork of a process with Ray's or CUDA's threads in it may never come back
            multiprocessing_context="forkserver" if workers else None,
        )
    )


def _use_one_thread(worker: int) -> None:
    """Let OpenCV use one thread, as torch does by itself: a process is a core's work."""
    import cv2

    cv2.setNumThreads(1)


def to_device_batch(raw: RawBatch, config: SamplingConfig, device: torch.device) -> Batch:
    """Put a loaded batch on the device and prepare it for a step; any thread may call this.

    Args:
        raw: A loaded batch, in host memory.
        config: ``augment`` and ``degrade`` are read.
        device: Where the step is taken.
    """
    with DEVICE:
        if device.type == "cuda":
            raw = raw.pin_memory()
        return prepare_batch(raw.to(device), config.augment, config.degrade)


def prefetch(items: Iterator[Batch], n: int = 2) -> Iterator[Batch]:
    """Yield the same items, made up to ``n`` ahead by a thread; an error of making one is raised here."""
    ready: queue.Queue[Batch | BaseException | None] = queue.Queue(n)
    ended = threading.Event()

    def put(item: Batch | BaseException | None) -> bool:
        while not ended.is_set():
            try:
                ready.put(item, timeout=0.2)
                return True
            except queue.Full:
                continue
        return False

    def fill() -> None:
        try:
            if all(put(item) for item in items):
                put(None)
        except BaseException as error:
            put(error)

    threading.Thread(target=fill, name="batches", daemon=True).start()
    try:
        while (item := ready.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        ended.set()
