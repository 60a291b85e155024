"""A process of a training run with two workers, on two GPUs or sharing one, for the tests of steps as CUDA graphs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from ffavatar_model.training import Trainer, cuda_graphs


def train_worker(rank: int, folder: Path) -> None:
    """Train on this worker's share, plainly and by graphs, then on a batch that is not finite on rank 1 alone.

    ``folder/given.pt`` holds the configuration, the head and each worker's batches; ``folder/RANK.pt`` is written.

    Args:
        rank: Number of this process, 0 or 1.
        folder: Folder of the files.
    """
    gpus = torch.cuda.device_count()
    device = torch.device("cuda", rank % gpus)
    torch.cuda.set_device(device)
    torch.distributed.init_process_group(
        "nccl" if gpus > 1 else "gloo", f"file://{folder}/group", rank=rank, world_size=2
    )
    config, head, batches = torch.load(folder / "given.pt", weights_only=False)
    cuda_graphs._ROOM = 1.0  # tile lists without a spare entry overflow on one worker or the other
    runs = []
    for graphs in (False, True):
        trainer = Trainer(replace(config, graphs=graphs), head, device, rank, 2)
        assert (trainer.graphed is not None) == graphs
        before = {n: p.detach().clone() for n, p in trainer.model.named_parameters()}
        metrics = []
        for batch in batches[rank]:
            trainer.launch_step(batch.to(device))
            metrics.append(trainer.read_metrics(in_flight=0 if len(metrics) % 2 else int(graphs)))
        metrics.append(trainer.read_metrics())
        moved = {n: (p.detach() - before[n]).cpu() for n, p in trainer.model.named_parameters()}
        runs.append({"metrics": metrics[-1], "moved": moved})
    held = {n: p.detach().clone() for n, p in trainer.model.named_parameters()}
    bad, raised = batches[rank][-1].to(device), ""
    if rank == 1:
        bad.drivers[0, 0, 0, 0, 0] = float("nan")
    try:
        trainer.train_step(bad)
    except FloatingPointError as e:
        raised = str(e)
    same = all(torch.equal(p.detach(), held[n]) for n, p in trainer.model.named_parameters())
    torch.save({"runs": runs, "raised": raised, "same": same}, folder / f"{rank}.pt")
    torch.distributed.destroy_process_group()
