"""Batches read and decoded ahead of the step, in processes of their own, and made ready on the device."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch.utils.data import DataLoader

from ffavatar_model.batch import Batch, RawBatch
from ffavatar_model.data import FewToMany
from ffavatar_model.develop import develop
from ffavatar_model.resident import DEVICE


def loaded(data: FewToMany, cursors: Sequence[list[int]], workers: int) -> Iterator[RawBatch]:
    """A batch for each list of places in the order of samples, by ``workers`` processes (0: in this one)."""
    return iter(
        DataLoader(
            data, sampler=cursors, batch_size=None, num_workers=workers,
            worker_init_fn=_one_thread, prefetch_factor=2 if workers else None,
            # a fork of a process with Ray's or CUDA's threads in it may never come back
            multiprocessing_context="forkserver" if workers else None,
        )
    )  # fmt: skip


def _one_thread(worker: int) -> None:
    """As torch does by itself: a process is a core's work."""
    import cv2

    cv2.setNumThreads(1)


def developed(raw: RawBatch, config: FewToMany.Config, device: torch.device) -> Batch:
    """A loaded batch on the device, ready for a step; may be called from another thread than the one that trains."""
    with DEVICE:
        if device.type == "cuda":
            raw = raw.pin_memory()
        return develop(raw.to(device), config.augment, config.degrade)
