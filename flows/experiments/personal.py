"""``python -m flows.experiments.personal CLIP…``: what personalization gives on real clips, beside copying a frame.

A CLIP is a video, or a file of pictures that ``flows.experiments.clip_images`` took of one.

Of each clip, pictures at even distances are taken: four of the first two thirds are sources, the others of these are
what is trained on besides, and the last third is held out. Nothing of a clip is kept but numbers; the clip's place in
the list names it.
"""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from numpy.typing import NDArray

from ffavatar_model.data.dataset import Face, PhotoDataset
from ffavatar_model.data.sampling import SamplingConfig
from ffavatar_model.head import load_head
from ffavatar_model.pretrained import STUDIO
from ffavatar_model.training import configured, train
from flows.avatar.heads import head_file
from flows.experiments.clip_images import TooFewError, pictures_of
from pipelines.media.image_codec import encode_png

log = logging.getLogger(__name__)

SOURCES = 4
"""Source pictures."""
MOVES: Mapping[str, tuple[str, ...]] = {
    "points": ("personal.raw",),
    "points and bias": ("personal.",),
    "points, bias and estimator": ("personal.", "estimator."),
    "everything": (),
}
"""What may move, by name: the ablation."""
SCRATCH_LR = 5e-4
"""Of a start from random weights, as in pretraining: the recipe's own rate is for weights that are nearly right."""


def sets(pictures: Sequence[Face], config: SamplingConfig) -> tuple[PhotoDataset, PhotoDataset]:
    """Training and held-out pictures, both with the same four sources first."""
    seen, held = pictures[: len(pictures) * 2 // 3], pictures[len(pictures) * 2 // 3 :]
    first = np.linspace(0, len(seen) - 1, SOURCES).round().astype(int).tolist()
    sources = [seen[i] for i in first]
    others = [seen[i] for i in range(len(seen)) if i not in first]
    judged = replace(config.held_out(), drivers=len(held))
    return PhotoDataset([*sources, *others], config), PhotoDataset([*sources, *held], judged)


class _Notes:
    """The loop's pictures, where they are wanted."""

    def __init__(self, folder: Path | None, name: str) -> None:
        self._folder, self._name = folder, name

    def report(self, step: int, metrics: Mapping[str, float], checkpoint: Path | None) -> None:
        """See ``ffavatar_model.training.Reporter``."""

    def picture(self, step: int, name: str, rgb: NDArray[np.uint8]) -> None:
        """Likewise."""
        if self._folder is not None and step:
            self._folder.mkdir(parents=True, exist_ok=True)
            (self._folder / f"{self._name}.png").write_bytes(encode_png(rgb))


def personalized(
    pictures: Sequence[Face],
    checkpoint: Path | None,
    moves: tuple[str, ...],
    steps: int,
    overrides: Sequence[str],
    notes: _Notes,
) -> dict[str, float]:
    """Held-out metrics before (``start/…``) and after (``end/…``); without a checkpoint all begins at random."""
    rate = [] if checkpoint else [f"optimizer.lr={SCRATCH_LR}"]
    given = [f"steps={steps}", f"moves={json.dumps(moves)}", *rate]
    config = configured("personalize", [*given, *overrides], init=checkpoint or STUDIO)
    training, held = sets(pictures, config.data)
    with tempfile.TemporaryDirectory() as folder:
        return train(config, load_head(head_file(None)), training, held, notes, Path(folder), init=checkpoint).metrics


@click.command(context_settings={"show_default": True})
@click.argument("clips", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
@click.option("--checkpoint", default=STUDIO, type=click.Path(path_type=Path))
@click.option("--steps", default=500)
@click.option("--moves", "chosen", multiple=True, type=click.Choice(list(MOVES)), help="Default all of them.")
@click.option("--scratch", is_flag=True, help="From random weights, too, where everything moves.")
@click.option("--set", "overrides", multiple=True, help="A training setting, a.b=value.")
@click.option("--pictures", type=click.Path(path_type=Path), help="Folder of pictures, which show the people.")
@click.option("-o", "--out", type=click.Path(path_type=Path), help="A JSON line a clip and way.")
def main(
    clips: Sequence[Path],
    checkpoint: Path,
    steps: int,
    chosen: Sequence[str],
    scratch: bool,
    overrides: Sequence[str],
    pictures: Path | None,
    out: Path | None,
) -> None:
    """Personalize for whoever each of CLIPS shows, and print the held-out PSNR (dB) of each way."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    size = configured("personalize", [], init=checkpoint).model.image_size
    ways: dict[str, tuple[Path | None, tuple[str, ...]]] = {n: (checkpoint, MOVES[n]) for n in chosen or MOVES}
    if scratch:
        ways["from random weights"] = (None, ())
    for number, clip in enumerate(clips):
        try:
            taken = pictures_of(clip, size)
        except TooFewError as error:
            _say(out, {"clip": number, "lost": str(error)})
            continue
        for name, (init, moves) in ways.items():
            torch.manual_seed(0)
            metrics = personalized(taken, init, moves, steps, overrides, _Notes(pictures, f"{number} {name}"))
            wanted = {"before": "start/psnr", "after": "end/psnr", "nearest": "end/nearest_psnr"}
            numbers = {key: round(metrics[metric], 2) for key, metric in wanted.items()}
            _say(out, {"clip": number, "way": name, "steps": steps, **numbers, "pictures": len(taken)})


def _say(out: Path | None, row: Mapping[str, Any]) -> None:
    line = json.dumps(row)
    click.echo(line)
    if out is not None:
        with out.open("a") as stream:
            stream.write(line + "\n")


if __name__ == "__main__":
    main()
