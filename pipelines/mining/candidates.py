"""Selection of the best few items of a stream, spread over its length; the length need not be known in advance."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Generic, TypeVar

T = TypeVar("T")

_Entry = tuple[float, int, T]
"""Rank, position, item."""


class SpreadBest(Generic[T]):
    """Buffer of the best items of a stream: at most ``k`` items, one for each interval of positions.

    While items arrive, the buffer holds at most ``2 k`` of them, one per bin of positions. If there would be more, bins
    are merged in pairs, and the better item of each pair is kept. The result depends on positions and ranks alone.
    """

    def __init__(self, k: int) -> None:
        """Create an empty buffer; ``k`` is at least 1."""
        self._k = k
        self._width = 1
        self._entries: dict[int, _Entry[T]] = {}

    def accepts(self, position: int, rank: float) -> bool:
        """Return True if ``put`` would keep an item with this position and rank; ask before making a costly item.

        Args:
            position: A frame number, at least that of every earlier item.
            rank: Quality of the item; higher is better.
        """
        entry = self._entries.get(position // self._width)
        return entry is None or rank > entry[0]

    def put(self, position: int, rank: float, item: T) -> None:
        """Keep an item if it is the best of its bin.

        Args:
            position: A frame number, at least that of every earlier item.
            rank: Quality of the item; higher is better.
            item: The item.
        """
        if not self.accepts(position, rank):
            return
        self._entries[position // self._width] = (rank, position, item)
        while len(self._entries) > 2 * self._k:
            self._width *= 2
            self._entries = _best_of_bins((entry[1] // self._width, entry) for entry in self._entries.values())

    def best(self, n: int | None = None) -> list[T]:
        """Return the best ``n`` items (at most ``k``, the default), or all if there are fewer, sorted by position."""
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
