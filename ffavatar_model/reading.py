"""Byte ranges read ahead by threads: a remote store answers late, and a sample takes a dozen answers."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

ReadBlob = Callable[[str, int, int], bytes]
"""(uri relative to the corpus, offset, length) → the bytes."""

Range = tuple[str, int, int]


class Reader:
    """A ``ReadBlob`` that begins to read what will be asked for, up to ``at_once`` ranges together.

    It travels to other processes; what was begun stays behind.
    """

    def __init__(self, read_blob: ReadBlob, at_once: int) -> None:
        self.read_blob, self.at_once = read_blob, at_once
        self._pool: ThreadPoolExecutor | None = None
        self._begun: dict[Range, Future[bytes]] = {}

    def ahead(self, ranges: Iterable[Range]) -> None:
        """Begin to read; what was begun before and not asked for is forgotten. Nothing with ``at_once=1``."""
        self._begun.clear()
        if self.at_once > 1:
            self._pool = self._pool or ThreadPoolExecutor(self.at_once, "reader")
            self._begun.update((each, self._pool.submit(self.read_blob, *each)) for each in dict.fromkeys(ranges))

    def __call__(self, uri: str, offset: int, length: int) -> bytes:
        """The bytes of a range; raises what reading it raised."""
        begun = self._begun.pop((uri, offset, length), None)
        return self.read_blob(uri, offset, length) if begun is None else begun.result()

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_pool": None, "_begun": {}}
