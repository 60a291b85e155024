"""Pictures of two kinds in one training run: of every so many batches one is of the other kind.

Whole batches, since the loss takes known cameras for all drivers of a batch or for none.
"""

from __future__ import annotations

from collections.abc import Sequence

from ffavatar_model.config import require
from ffavatar_model.data.batch import Batch
from ffavatar_model.data.resident import ResidentData


class Mixture:
    """``share`` of the batches from ``other``, spread evenly; the rest from ``main``.

    Which batch comes from where depends on its number alone, and each of the two goes on in its own order: the same on
    any number of workers. Read as the training loop reads ``ResidentData``.
    """

    def __init__(self, main: ResidentData, other: ResidentData, share: float, people: int) -> None:
        """``people`` is their number in a step, on all workers together. Raises ``ValueError`` for another share."""
        require(0 <= share < 1, "share", share, "0 to below 1")
        self.main, self.other, self.share, self.people = main, other, share, people

    def __len__(self) -> int:
        """People of both."""
        return len(self.main) + len(self.other)

    def place(self, cursor: int) -> tuple[ResidentData, int]:
        """The data set of a place in the whole order, and the place in that one's own."""
        number, offset = divmod(cursor, self.people)
        before, after = (int(n * self.share) for n in (number, number + 1))
        if after > before:
            return self.other, before * self.people + offset
        return self.main, (number - before) * self.people + offset

    def batch(self, cursors: Sequence[int], people: int = 1) -> Batch:
        """The samples at places that lie in one step (of ``people`` as it was made for)."""
        places = [self.place(cursor) for cursor in cursors]
        return places[0][0].batch([place for _, place in places], self.people)
