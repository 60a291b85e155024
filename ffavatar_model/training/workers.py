"""The processes of a training run that torchrun starts."""

from __future__ import annotations

import os

import torch


def join_workers() -> tuple[int, int, torch.device]:
    """Join the processes that torchrun started, if it did (its RANK, WORLD_SIZE and LOCAL_RANK).

    Returns:
        Number of this process, number of processes, and this process's device.
    """
    rank, world, local = (
        int(os.environ.get(name, default)) for name, default in (("RANK", 0), ("WORLD_SIZE", 1), ("LOCAL_RANK", 0))
    )
    cuda = torch.cuda.is_available()
    device = torch.device("cuda", local) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(device)
    if world > 1:
        torch.distributed.init_process_group("nccl" if cuda else "gloo")
    return rank, world, device
