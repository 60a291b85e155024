"""``python -m flows.experiments.personal CLIP…``: what personalization gives on real clips, beside copying a frame.

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

from ffavatar_model.data import Face, FewToMany
from ffavatar_model.head import load_head
from ffavatar_model.photos import PhotoDataset
from ffavatar_model.pretrained import STUDIO
from ffavatar_model.training import recipe, train
from flows.avatars import face_of, open_model
from flows.heads import head_file
from flows.portraits import PortraitMaker, follow
from pipelines.faces.analysis import Detection
from pipelines.faces.pictures import encode_png
from pipelines.media.decoder import ProcessDecoder

log = logging.getLogger(__name__)

SOURCES, TAKEN = 4, 24
"""Source pictures; pictures taken of a clip."""
MOVES: Mapping[str, tuple[str, ...]] = {
    "points": ("personal.raw",),
    "points and bias": ("personal.",),
    "points, bias and estimator": ("personal.", "estimator."),
}
"""What may move, by name: the ablation."""


class TooFewError(ValueError):
    """A clip shows its face too rarely."""


def pictures_of(clip: Path, size: int) -> list[Face]:
    """Up to ``TAKEN`` pictures of the clip's largest face, in time.

    Raises:
        TooFewError: fewer than half of the frames looked at show it.
    """
    decoder, maker = ProcessDecoder(), PortraitMaker()
    try:
        frames = [frame.rgb for frame in decoder.frames(clip)]
    finally:
        decoder.close()
    face: Detection | None = None
    found: list[Face] = []
    for index in np.linspace(0, len(frames) - 1, TAKEN).round().astype(int):
        seen = follow(maker.find(frames[index]), face)
        if seen is not None:
            face = seen
            found.append(replace(face_of(maker.take(frames[index], face), size, f"frame {index}"), moment=int(index)))
    if len(found) < TAKEN // 2:
        raise TooFewError(f"{len(found)} of {TAKEN} frames show a face")
    return found


def sets(pictures: Sequence[Face], config: FewToMany.Config) -> tuple[PhotoDataset, PhotoDataset]:
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
    pictures: Sequence[Face], checkpoint: Path | None, moves: tuple[str, ...], steps: int, notes: _Notes
) -> dict[str, float]:
    """Held-out metrics before (``start/…``) and after (``end/…``); without a checkpoint all begins at random."""
    model, _ = open_model(checkpoint or STUDIO)
    config = replace(recipe("personalize"), model=model.config, steps=steps, moves=moves)
    training, held = sets(pictures, config.data)
    with tempfile.TemporaryDirectory() as folder:
        found = train(config, load_head(head_file(None)), training, held, notes, Path(folder), init=checkpoint)
    return found.metrics


@click.command(context_settings={"show_default": True})
@click.argument("clips", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
@click.option("--checkpoint", default=STUDIO, type=click.Path(path_type=Path))
@click.option("--steps", default=500)
@click.option("--moves", "chosen", multiple=True, type=click.Choice(list(MOVES)), help="Default all of them.")
@click.option("--scratch", is_flag=True, help="From random weights, too, where everything moves.")
@click.option("--pictures", type=click.Path(path_type=Path), help="Folder of pictures, which show the people.")
@click.option("-o", "--out", type=click.Path(path_type=Path), help="A JSON line a clip and way.")
def main(
    clips: Sequence[Path], checkpoint: Path, steps: int, chosen: Sequence[str], scratch: bool, pictures: Path | None,
    out: Path | None,
) -> None:  # fmt: skip
    """Personalize for whoever each of CLIPS shows, and print the held-out PSNR (dB) of each way."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    size = open_model(checkpoint)[0].config.image_size
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
            metrics = personalized(taken, init, moves, steps, _Notes(pictures, f"{number} {name}"))
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
