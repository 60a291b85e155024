"""Samples read and decoded ahead of the step, in processes of their own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch.utils.data import DataLoader

from ffavatar_model.data import Batch, FewToMany, collate


def loaded(
    data: FewToMany, cursors: Sequence[list[int]], workers: int, pin_memory: bool = False
) -> Iterator[Batch]:
    """A batch for each list of places in the order of samples, by ``workers`` processes (0: in this one)."""
    return iter(
        DataLoader(
            data, batch_sampler=cursors, collate_fn=collate, num_workers=workers, pin_memory=pin_memory,
            prefetch_factor=4 if workers else None,
            # a fork of a process with Ray's or CUDA's threads in it may never come back
            multiprocessing_context="forkserver" if workers else None,
        )
    )  # fmt: skip
