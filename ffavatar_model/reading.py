"""Byte ranges read ahead by threads: a remote store answers late, and a batch takes a hundred answers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

ReadBlob = Callable[[str, int, int], bytes]
"""(uri relative to the corpus, offset, length) → the bytes."""

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
