"""Keep the best few items of a stream, spread over its length, without knowing that length beforehand."""

from __future__ import annotations

from typing import Generic, TypeVar

T = TypeVar("T")


class SpreadBest(Generic[T]):
    """The best item of each of at most ``k`` equal bins of time.

    While items stream in, at most ``2 k`` are held, one a bin; when there are more, bins are merged two by two, the
    better item staying. Which are kept depends on positions and ranks alone.
    """

    def __init__(self, k: int) -> None:
        self._k = k
        self._width = 1
        self._held: dict[int, tuple[float, int, T]] = {}

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
            self._held = _best((position // self._width, rank, position, item) for rank, position, item in self._held.values())

    def best(self) -> list[T]:
        """At most ``k`` items in the order of their positions."""
        held = sorted(self._held.values(), key=lambda entry: entry[1])
        if len(held) > self._k:
            first, length = held[0][1], held[-1][1] - held[0][1] + 1
            held = list(_best(((p - first) * self._k // length, r, p, item) for r, p, item in held).values())
        return [item for _, _, item in held]


def _best(entries: object) -> dict[int, tuple[float, int, T]]:
    best: dict[int, tuple[float, int, T]] = {}
    for place, rank, position, item in entries:  # type: ignore[attr-defined]
        if place not in best or rank > best[place][0]:
            best[place] = (rank, position, item)
    return best
