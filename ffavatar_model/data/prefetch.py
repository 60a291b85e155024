"""Prefetching of training batches.

Threads read byte ranges ahead, processes load batches ahead, and a thread copies batches to the device. A remote store
has a high latency, and a batch needs about a hundred reads; so each loader process starts to read all ranges of a batch
at once, and reads neighbouring ranges in one request.
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
"""Reader of a byte range: (uri relative to the corpus, offset, length) → its bytes."""

DEVICE = threading.RLock()
"""Lock that a thread holds while it captures a CUDA graph or, other than the training thread, uses the device.

While a CUDA graph is captured, no other thread may use the device.
"""

GAP, LONGEST = 128 << 10, 4 << 20
"""Largest gap between ranges of one file that are read in one request, and largest size of a request, in bytes.

A request to a remote store takes as long as reading some hundred kilobytes, and a person's images are stored side by
side.
"""


class RangeReader:
    """A ``ReadBlob`` that can read ranges ahead of their use, up to ``at_once`` of them concurrently.

    It can be pickled; the copy has none of the reads in progress.
    """

    def __init__(self, read_blob: ReadBlob, at_once: int) -> None:
        self.read_blob, self.at_once = read_blob, at_once
        self._pool: ThreadPoolExecutor | None = None
        self._begun: dict[ByteRange, tuple[CoalescedRead, Future[bytes]]] = {}
        """For each range in progress the request that covers it, and the future of that request's bytes."""

    def begin(self, ranges: Iterable[ByteRange]) -> None:
        """Start to read ``ranges`` and forget those of earlier calls; with ``at_once=1`` nothing is read ahead."""
        self._begun.clear()
        if self.at_once > 1:
            self._pool = self._pool or ThreadPoolExecutor(self.at_once, "reader")
            for read in coalesce(ranges, GAP, LONGEST):
                data = self._pool.submit(self.read_blob, read.path, read.begin, read.end - read.begin)
                self._begun.update((covered, (read, data)) for covered in read.ranges)

    def __call__(self, uri: str, offset: int, length: int) -> bytes:
        """Return the bytes of a range, from ``begin`` or read now; an error of reading is raised here."""
        wanted = (uri, offset, length)
        if wanted not in self._begun:
            return self.read_blob(uri, offset, length)
        read, data = self._begun[wanted]
        return read.slice(data.result(), wanted)

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_pool": None, "_begun": {}}


def load_batches(data: Dataset[RawBatch], cursors: Sequence[list[int]], workers: int) -> Iterator[RawBatch]:
    """Load batches in loader processes.

    Args:
        data: A data set that takes a list of cursors as its index.
        cursors: For each batch the cursors of its samples.
        workers: Number of processes; 0 loads in this process.

    Returns:
        Iterator over the batches, in the order of ``cursors``; the processes start before it is returned.
    """
    return iter(
        DataLoader(
            data,
            sampler=cursors,
            batch_size=None,
            num_workers=workers,
            worker_init_fn=_use_one_thread,
            prefetch_factor=2 if workers else None,
            # a fork of a process that has threads of Ray or CUDA may hang
            multiprocessing_context="forkserver" if workers else None,
        )
    )


def _use_one_thread(worker: int) -> None:
    """Limit OpenCV to one thread per process, as torch does by itself in a loader process."""
    import cv2

    cv2.setNumThreads(1)


def to_device_batch(raw: RawBatch, config: SamplingConfig, device: torch.device) -> Batch:
    """Copy a loaded batch to the device and prepare it for a step; any thread may call this.

    Args:
        raw: Loaded batch, in host memory.
        config: Only ``augment`` and ``degrade`` are read.
        device: Device of the training step.
    """
    with DEVICE:
        if device.type == "cuda":
            raw = raw.pin_memory()
        return prepare_batch(raw.to(device), config.augment, config.degrade)


def prefetch(items: Iterator[Batch], n: int = 2) -> Iterator[Batch]:
    """Yield the items of an iterator, which a thread advances up to ``n`` items ahead; its errors are raised here."""
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
