"""The gain of personalization on real clips, beside copying a frame: ``python -m flows.experiments.personal CLIP…``.

A CLIP is a video, or a file of images that ``flows.experiments.clip_images`` took of one. Images are taken at even
distances: four of the first two thirds are sources, the others of these are trained on, too, and the last third is held
out. Nothing of a clip is stored but metrics; the clip's position in the list names it.
"""

from __future__ import annotations

import json
import logging
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from numpy.typing import NDArray

from ffavatar_model.data.dataset import LoadedImage, PhotoDataset
from ffavatar_model.data.sampling import SamplingConfig
from ffavatar_model.head import load_head
from ffavatar_model.pretrained import STUDIO
from ffavatar_model.training import build_config, train
from flows.avatar.heads import prepare_head_file
from flows.experiments.clip_images import TooFewError, read_clip
from pipelines.media.image_codec import encode_png

log = logging.getLogger(__name__)

N_SOURCES = 4
TRAINABLE: Mapping[str, tuple[str, ...]] = {
    "points": ("personal.raw",),
    "points and bias": ("personal.",),
    "points, bias and estimator": ("personal.", "estimator."),
    "everything": (),
}
"""Trainable parameters (``TrainConfig.moves``) by the name of the ablation."""
SCRATCH_LR = 5e-4
"""Learning rate from random weights, as in pretraining: the recipe's own is for weights that are nearly right."""
LANDMARK_PX = 256
"""Landmark errors are in pixels of an aligned crop of this size."""


def split_images(images: Sequence[LoadedImage], config: SamplingConfig) -> tuple[PhotoDataset, PhotoDataset]:
    """Split a clip's images, in the order of time, into training and held-out data with the same four sources."""
    earlier, held_out = images[: len(images) * 2 // 3], images[len(images) * 2 // 3 :]
    first = np.linspace(0, len(earlier) - 1, N_SOURCES).round().astype(int).tolist()
    sources = [earlier[i] for i in first]
    others = [earlier[i] for i in range(len(earlier)) if i not in first]
    validation = replace(config.held_out(), drivers=len(held_out))
    return PhotoDataset([*sources, *others], config), PhotoDataset([*sources, *held_out], validation)


class _ImageReporter:
    """A reporter that writes the last image of a run, where a folder is given, and no metrics."""

    def __init__(self, folder: Path | None, name: str) -> None:
        self._folder, self._name = folder, name

    def report(self, step: int, metrics: Mapping[str, float], checkpoint: Path | None) -> None:
        """Ignore metrics: those of the start and the end are in the run's outcome."""

    def image(self, step: int, name: str, rgb: NDArray[np.uint8]) -> None:
        """Write the image, over that of an earlier step."""
        if self._folder is not None and step:
            self._folder.mkdir(parents=True, exist_ok=True)
            (self._folder / f"{self._name}.png").write_bytes(encode_png(rgb))


def personalize_clip(
    images: Sequence[LoadedImage],
    checkpoint: Path | None,
    moves: tuple[str, ...],
    steps: int,
    overrides: Sequence[str],
    reporter: _ImageReporter,
) -> dict[str, float]:
    """Personalize a model for the person of a clip.

    Args:
        images: The clip's images, in the order of time.
        checkpoint: The model to begin with; None begins with random weights.
        moves: Trainable parameters (``TrainConfig.moves``).
        steps: Training steps.
        overrides: Further settings ``a.b=value``.
        reporter: Receives images.

    Returns:
        Held-out metrics before (``start/…``) and after (``end/…``).
    """
    rate = [] if checkpoint else [f"optimizer.lr={SCRATCH_LR}"]
    settings = [f"steps={steps}", f"moves={json.dumps(moves)}", *rate]
    config = build_config("personalize", [*settings, *overrides], init=checkpoint or STUDIO)
    training, held_out = split_images(images, config.data)
    head = load_head(prepare_head_file(None))
    with tempfile.TemporaryDirectory() as folder:
        return train(config, head, training, held_out, reporter, Path(folder), init=checkpoint).metrics


def measure_personalization(
    images: Sequence[LoadedImage],
    checkpoint: Path | None,
    moves: tuple[str, ...],
    steps: int,
    overrides: Sequence[str],
    reporter: _ImageReporter,
) -> dict[str, float]:
    """Personalize a model for the person of a clip, from a fixed seed, and return the figures of a row.

    Args:
        images: The clip's images, in the order of time.
        checkpoint: The model to begin with; None begins with random weights.
        moves: Trainable parameters (``TrainConfig.moves``).
        steps: Training steps.
        overrides: Further settings ``a.b=value``.
        reporter: Receives images.

    Returns:
        Held-out PSNR (dB) before and after, and of the nearest source frame; held-out landmark error before and after,
        in pixels of an aligned crop of ``LANDMARK_PX``, where landmarks were detected; seconds of the complete call.
    """
    torch.manual_seed(0)
    began = time.monotonic()
    metrics = personalize_clip(images, checkpoint, moves, steps, overrides, reporter)
    columns = {"before": "start/psnr", "after": "end/psnr", "nearest": "end/nearest_psnr"}
    row = {column: round(metrics[metric], 2) for column, metric in columns.items()}
    for column, metric in {"landmark_before": "start/landmark", "landmark_after": "end/landmark"}.items():
        if metric in metrics:
            row[column] = round(LANDMARK_PX * metrics[metric], 2)
    return row | {"seconds": round(time.monotonic() - began, 1)}


@click.command(context_settings={"show_default": True})
@click.argument("clips", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
@click.option("--checkpoint", default=STUDIO, type=click.Path(path_type=Path))
@click.option("--steps", default=500)
@click.option("--moves", "chosen", multiple=True, type=click.Choice(list(TRAINABLE)), help="Default all of them.")
@click.option("--scratch", is_flag=True, help="From random weights, too, where every parameter is trainable.")
@click.option("--set", "overrides", multiple=True, help="A training setting, a.b=value.")
@click.option("--pictures", type=click.Path(path_type=Path), help="Folder of images, which show the people.")
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
    """Personalize for the person in each of CLIPS, and print the held-out figures of each choice of parameters."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    size = build_config("personalize", [], init=checkpoint).model.image_size
    ways: dict[str, tuple[Path | None, tuple[str, ...]]] = {n: (checkpoint, TRAINABLE[n]) for n in chosen or TRAINABLE}
    if scratch:
        ways["from random weights"] = (None, ())
    for number, clip in enumerate(clips):
        try:
            images = read_clip(clip, size)
        except TooFewError as error:
            _write_row(out, {"clip": number, "lost": str(error)})
            continue
        for name, (init, moves) in ways.items():
            reporter = _ImageReporter(pictures, f"{number} {name}")
            values = measure_personalization(images, init, moves, steps, overrides, reporter)
            _write_row(out, {"clip": number, "way": name, "steps": steps, **values, "pictures": len(images)})


def _write_row(out: Path | None, row: Mapping[str, Any]) -> None:
    line = json.dumps(row)
    click.echo(line)
    if out is not None:
        with out.open("a") as stream:
            stream.write(line + "\n")


if __name__ == "__main__":
    main()
