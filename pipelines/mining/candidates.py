"""Keep the best few items of a stream, spread over its length, without knowing that length beforehand."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Generic, TypeVar

T = TypeVar("T")

_Held = tuple[float, int, T]
"""Rank, position, item."""


class SpreadBest(Generic[T]):
    """At most ``k`` items, the best of as many stretches of time.

    While items stream in, at most ``2 k`` are held, one a bin of time; when there are more, bins are merged two by two,
    the better item staying. Which are kept depends on positions and ranks alone.
    """

    def __init__(self, k: int) -> None:
        self._k = k
        self._width = 1
        self._held: dict[int, _Held[T]] = {}

    def wants(self, position: int, rank: float) -> bool:
        """Whether an item would be held: asked before it is made, as making it costs."""
        held = self._held.get(position // self._width)
        return held is None or rank > held[0]

    def put(self, position: int, rank: float, item: T) -> None:
        """Hold an item at a position (a frame number, ascending) if it is the best of its bin."""
        if not self.wants(position, rank):
            return
        self._held[position // self._width] = (rank, position, item)
        while len(self._held) > 2 * self._k:
            self._width *= 2
            self._held = _best((held[1] // self._width, held) for held in self._held.values())

    def best(self, n: int | None = None) -> list[T]:
        """``n`` items (``k`` at most, and by default), or all that there were if they were fewer, by position."""
        n = self._k if n is None else min(n, self._k)
        held = sorted(self._held.values(), key=lambda entry: entry[1])
        if len(held) > n:
            held = list(_best((i * n // len(held), entry) for i, entry in enumerate(held)).values())
        return [item for _, _, item in held]


def _best(entries: Iterable[tuple[int, _Held[T]]]) -> dict[int, _Held[T]]:
    best: dict[int, _Held[T]] = {}
    for place, held in entries:
        if place not in best or held[0] > best[place][0]:
            best[place] = held
    return best
