"""Training without Ray, in one process or in the processes that torchrun starts.

``torchrun --nproc-per-node N -m flows.training.torchrun STAGE --corpus URI -o FOLDER``

The training loop and the order of batches are the same as in a Ray Train job, for any number of processes. The same
command with the same folder continues from the newest checkpoint in it, also with fewer processes than before.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path

import click
import numpy as np
import torch
from numpy.typing import NDArray

from ffavatar_model.head import load_head
from ffavatar_model.training import build_config, train
from ffavatar_model.training.checkpoint import list_checkpoints
from ffavatar_model.training.workers import join_workers
from flows.avatar.heads import prepare_head_file
from flows.training.stage_data import open_datasets
from infra.storage import open_store
from mfhq.catalog import Catalog
from pipelines.media.image_codec import encode_png

log = logging.getLogger(__name__)


class _FolderReporter:
    """Reporter that writes metrics as lines of JSON on rank 0, and images as files."""

    def __init__(self, folder: Path, rank: int) -> None:
        self.folder, self.rank = folder, rank

    def report(self, step: int, metrics: Mapping[str, float], checkpoint: Path | None) -> None:
        """Write the metrics of a step, as a ``ffavatar_model.training.Reporter``."""
        if self.rank == 0:
            line = json.dumps({"step": step, **metrics})
            log.info("%s", line)
            with (self.folder / "metrics.jsonl").open("a") as stream:
                stream.write(line + "\n")

    def image(self, step: int, name: str, rgb: NDArray[np.uint8]) -> None:
        """Write an image as a PNG file that is named by the step."""
        (self.folder / f"{step:08d}.png").write_bytes(encode_png(rgb))


@click.command(context_settings={"show_default": True})
@click.argument("stage", type=click.Choice(["pretrain", "multiview", "personalize"]))
@click.option("--corpus", required=True, metavar="URI")
@click.option("--snapshot", metavar="vN", help="Default the newest.")
@click.option("--model", "size", default="tiny", help="Preset; with --init the checkpoint's own.")
@click.option("--init", type=click.Path(path_type=Path), help="Checkpoint to begin with.")
@click.option("--identity", default="", help="personalize: the person.")
@click.option("--head", help="FLAME pickle or head file; default the open head.")
@click.option("--set", "overrides", multiple=True, metavar="a.b=c")
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), help="Folder of the run.")
def main(
    stage: str,
    corpus: str,
    snapshot: str | None,
    size: str,
    init: Path | None,
    identity: str,
    head: str | None,
    overrides: tuple[str, ...],
    out: Path,
) -> None:
    """Train STAGE on a corpus, as one process of as many as the environment says (torchrun's RANK, WORLD_SIZE)."""
    rank, world, device = join_workers()
    logging.basicConfig(level=logging.INFO if rank == 0 else logging.WARNING, format="%(message)s")
    config = build_config(stage, overrides, size, init)
    out.mkdir(parents=True, exist_ok=True)
    checkpoints = list_checkpoints(out)
    store = open_store(corpus)
    training, validation = open_datasets(config, store, Catalog(store).open(snapshot), identity)
    try:
        outcome = train(
            config,
            load_head(prepare_head_file(head)),
            training,
            validation,
            _FolderReporter(out, rank),
            out,
            init=init,
            resume=checkpoints[-1] if checkpoints else None,
            rank=rank,
            world=world,
            device=device,
        )
    finally:
        if world > 1:
            torch.distributed.destroy_process_group()
    if rank == 0:
        log.info("checkpoint %s", outcome.checkpoint)


if __name__ == "__main__":
    main()
