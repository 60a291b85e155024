"""Byte ranges read ahead by threads: a remote store answers late, and a batch takes a hundred answers.

Batches read and decoded ahead of the step, in processes of their own, and made ready on the device.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from ffavatar_model.data.augment import develop
from ffavatar_model.data.batch import Batch, RawBatch
from ffavatar_model.data.sampling import SamplingConfig

ReadBlob = Callable[[str, int, int], bytes]
"""(uri relative to the corpus, offset, length) → the bytes."""

DEVICE = threading.RLock()
"""Held by who uses the device beside the thread that trains: while that one captures a graph, nothing else may run."""

Range = tuple[str, int, int]

GAP, LONGEST = 128 << 10, 4 << 20
"""Bytes: ranges of one file that lie no farther apart are read as one, up to this length. A request of a remote store
costs as much as some hundred kilobytes, and a person's pictures lie beside one another."""


class Reader:
    """A ``ReadBlob`` that begins to read what will be asked for, up to ``at_once`` ranges together.

    It travels to other processes; what was begun stays behind.
    """

    def __init__(self, read_blob: ReadBlob, at_once: int) -> None:
        self.read_blob, self.at_once = read_blob, at_once
        self._pool: ThreadPoolExecutor | None = None
        self._begun: dict[Range, tuple[int, Future[bytes]]] = {}
        """Where the read that covers a range begins, and its bytes."""

    def ahead(self, ranges: Iterable[Range]) -> None:
        """Begin to read; what was begun before is forgotten. Nothing with ``at_once=1``."""
        self._begun.clear()
        if self.at_once > 1:
            self._pool = self._pool or ThreadPoolExecutor(self.at_once, "reader")
            for uri, begin, end, covered in joined(ranges):
                read = self._pool.submit(self.read_blob, uri, begin, end - begin)
                self._begun.update((each, (begin, read)) for each in covered)

    def __call__(self, uri: str, offset: int, length: int) -> bytes:
        """The bytes of a range; raises what reading it raised."""
        begun = self._begun.get((uri, offset, length))
        if begun is None:
            return self.read_blob(uri, offset, length)
        begin, read = begun
        return read.result()[offset - begin : offset - begin + length]

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_pool": None, "_begun": {}}


def joined(ranges: Iterable[Range]) -> Iterator[tuple[str, int, int, list[Range]]]:
    """(uri, begin, end, the ranges inside) of each read, in the order in which the first of them is asked for."""
    asked = list(dict.fromkeys(ranges))
    reads: list[tuple[str, int, int, list[Range]]] = []
    for uri, offset, length in sorted(asked):
        last = reads[-1] if reads else ("", 0, 0, [])
        end = max(last[2], offset + length)
        if last[0] == uri and offset - last[2] <= GAP and end - last[1] <= LONGEST:
            reads[-1] = (uri, last[1], end, [*last[3], (uri, offset, length)])
        else:
            reads.append((uri, offset, offset + length, [(uri, offset, length)]))
    place = {each: i for i, each in enumerate(asked)}
    yield from sorted(reads, key=lambda read: min(place[each] for each in read[3]))


def loaded(data: Dataset[RawBatch], cursors: Sequence[list[int]], workers: int) -> Iterator[RawBatch]:
    """A batch for each list of places in the order of samples, by ``workers`` processes (0: in this one)."""
    return iter(
        DataLoader(
            data,
            sampler=cursors,
            batch_size=None,
            num_workers=workers,
            worker_init_fn=_one_thread,
            prefetch_factor=2 if workers else None,
            # a fork of a process with Ray's or CUDA's threads in it may never come back
            multiprocessing_context="forkserver" if workers else None,
        )
    )


def _one_thread(worker: int) -> None:
    """As torch does by itself: a process is a core's work."""
    import cv2

    cv2.setNumThreads(1)


def developed(raw: RawBatch, config: SamplingConfig, device: torch.device) -> Batch:
    """A loaded batch on the device, ready for a step; may be called from another thread than the one that trains."""
    with DEVICE:
        if device.type == "cuda":
            raw = raw.pin_memory()
        return develop(raw.to(device), config.augment, config.degrade)


def ahead(items: Iterator[Batch], n: int = 2) -> Iterator[Batch]:
    """The same items, made up to ``n`` ahead by a thread; an error in it is raised here."""
    made: queue.Queue[Batch | BaseException | None] = queue.Queue(n)
    ended = threading.Event()

    def put(item: Batch | BaseException | None) -> bool:
        while not ended.is_set():
            try:
                made.put(item, timeout=0.2)
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
        while (item := made.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        ended.set()
