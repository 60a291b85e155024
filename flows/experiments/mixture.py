"""Images of two kinds in one training run: of every so many batches one is of the other kind.

Whole batches, since the loss takes known cameras for all drivers of a batch or for none.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from ffavatar_model.config import require
from ffavatar_model.data.batch import Batch
from flows.experiments.device_images import ResidentData


class Mixture:
    """Two data sets in one: ``share`` of the batches from ``other``, spread evenly, the rest from ``main``.

    Which batch comes from where depends on its number alone, and each of the two goes on in its own order: the same on
    any number of workers. It fulfils ``TrainingData``.
    """

    def __init__(self, main: ResidentData, other: ResidentData, share: float, people: int) -> None:
        """Mix two data sets.

        Args:
            main: The data set of most batches.
            other: The data set of a share of the batches.
            share: 0 to below 1.
            people: Number of people in a step, on all workers together.

        Raises:
            ValueError: ``share`` is out of its range.
        """
        require(0 <= share < 1, "share", share, "0 to below 1")
        self.main, self.other, self.share, self.people = main, other, share, people

    def __len__(self) -> int:
        """Return the number of people of both."""
        return len(self.main) + len(self.other)

    def locate(self, cursor: int) -> tuple[ResidentData, int]:
        """Return the data set of a place in the order of samples, and the place in that data set's own order."""
        number, offset = divmod(cursor, self.people)
        before, after = (int(n * self.share) for n in (number, number + 1))
        if after > before:
            return self.other, before * self.people + offset
        return self.main, (number - before) * self.people + offset

    def batch(self, cursors: Sequence[int]) -> Batch:
        """Return the samples at ``cursors``, which lie in one step."""
        located = [self.locate(cursor) for cursor in cursors]
        return located[0][0].batch([cursor for _, cursor in located], self.people)

    def batches(
        self, cursors: Sequence[list[int]], *, people: int, workers: int, device: torch.device
    ) -> Iterator[Batch]:
        """Yield a batch for each list of cursors: see ``TrainingData``. No worker is needed to index."""
        return (self.batch(each) for each in cursors)
