"""``ffavatar reconstruct --personalize N``: training steps on a person's photos, before their avatar is written."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ffavatar_model.data.dataset import Face, PhotoDataset, every_photo
from ffavatar_model.head import HeadModel
from ffavatar_model.io.weights import load_weights
from ffavatar_model.model import FFAvatar
from ffavatar_model.training import recipe, train
from infra.console import ProgressBar

MOVES = ("personal.raw",)
"""The person's own Gaussians: they are part of an avatar's file, which the checkpoint's estimator goes on driving."""


def personalize_on_photos(
    model: FFAvatar, checkpoint: Path, head: HeadModel, photos: Sequence[Face], steps: int
) -> None:
    """Fit a person's own Gaussians to their photos, and give them to ``model``, which was read from ``checkpoint``.

    The recipe is ``personalize``'s but for what moves: encoder, query former and estimator stay, and run once.
    ``photos`` are prepared at the model's size; ``head`` is the model's, not subdivided.

    Raises:
        FloatingPointError: the loss is not finite.
    """
    config = recipe("personalize")
    data = PhotoDataset(photos, every_photo(len(photos), config.data.drivers))
    config = replace(config, model=model.config, data=data.config, steps=steps, moves=MOVES)
    with tempfile.TemporaryDirectory(prefix="ffavatar-personalize-") as folder, contextlib.closing(_Bar(steps)) as bar:
        device = model.rig.points.device
        result = train(config, head, data, None, bar, Path(folder), init=checkpoint, device=device)
        model.add_personal()
        load_weights(result.checkpoint, model)


class _Bar:
    """The loop's news as one line on a terminal."""

    def __init__(self, steps: int) -> None:
        self._steps, self._progress = steps, ProgressBar("personalizing")

    def close(self) -> None:
        """End the line."""
        self._progress.close()

    def report(self, step: int, metrics: Mapping[str, float], checkpoint: Path | None) -> None:
        """See ``ffavatar_model.training.Reporter``."""
        self._progress.update("steps", step, self._steps)

    def picture(self, step: int, name: str, rgb: NDArray[np.uint8]) -> None:
        """None are kept."""
