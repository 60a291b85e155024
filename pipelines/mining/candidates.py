"""Selection of the best few items of a stream, spread over its length, which need not be known beforehand."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Generic, TypeVar

T = TypeVar("T")

_Entry = tuple[float, int, T]
"""Rank, position, item."""


class SpreadBest(Generic[T]):
    """A buffer of at most ``k`` items: the best of as many intervals of positions.

    While items stream in, at most ``2 k`` are held, one a bin of positions; when there are more, bins are merged two by
    two and the better item stays. The result depends on positions and ranks alone.
    """

    def __init__(self, k: int) -> None:
        """Begin empty; ``k`` is at least 1."""
        self._k = k
        self._width = 1
        self._entries: dict[int, _Entry[T]] = {}

    def accepts(self, position: int, rank: float) -> bool:
        """Return True if ``put`` would keep such an item, so that a costly item is made only then.

        Args:
            position: A frame number, not below that of earlier items.
            rank: The higher the better.
        """
        entry = self._entries.get(position // self._width)
        return entry is None or rank > entry[0]

    def put(self, position: int, rank: float, item: T) -> None:
        """Keep an item if it is the best of its bin.

        Args:
            position: A frame number, not below that of earlier items.
            rank: The higher the better.
            item: The item.
        """
        if not self.accepts(position, rank):
            return
        self._entries[position // self._width] = (rank, position, item)
        while len(self._entries) > 2 * self._k:
            self._width *= 2
            self._entries = _best_of_bins((entry[1] // self._width, entry) for entry in self._entries.values())

    def best(self, n: int | None = None) -> list[T]:
        """Return ``n`` items (at most ``k``, the default) by position, or all where there are fewer."""
        n = self._k if n is None else min(n, self._k)
        entries = sorted(self._entries.values(), key=lambda entry: entry[1])
        if len(entries) > n:
            bins = ((i * n // len(entries), entry) for i, entry in enumerate(entries))
            entries = list(_best_of_bins(bins).values())
        return [item for _, _, item in entries]


def _best_of_bins(entries: Iterable[tuple[int, _Entry[T]]]) -> dict[int, _Entry[T]]:
    best: dict[int, _Entry[T]] = {}
    for number, entry in entries:
        if number not in best or entry[0] > best[number][0]:
            best[number] = entry
    return best
