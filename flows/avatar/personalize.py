"""Training on a person's photos before the avatar is written: ``ffavatar reconstruct --personalize N``."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ffavatar_model.data.dataset import LoadedImage, PhotoDataset, photo_sampling
from ffavatar_model.head import HeadModel
from ffavatar_model.io.weights import load_weights
from ffavatar_model.model import FFAvatar
from ffavatar_model.training import recipe, train
from infra.console import ProgressBar

TRAINABLE = ("personal.raw",)
"""Names of the trainable parameters: the person's Gaussians, which become part of the avatar's file.

Nothing else changes, so the checkpoint's estimator still drives the avatar."""


def personalize_on_photos(
    model: FFAvatar, checkpoint: Path, head: HeadModel, photos: Sequence[LoadedImage], steps: int
) -> None:
    """Fit a person's own Gaussians to their photos, and load them into the model.

    The recipe is that of stage personalize with fewer trainable parameters: encoder, query former and estimator are
    frozen, and run once.

    Args:
        model: The model of ``checkpoint``; changed in place.
        checkpoint: The model file that training begins with.
        head: The model's head before subdivision.
        photos: The person's photos, at the model's image size.
        steps: Number of training steps.

    Raises:
        FloatingPointError: The loss is not finite.
    """
    config = recipe("personalize")
    data = PhotoDataset(photos, photo_sampling(len(photos), config.data.drivers))
    config = replace(config, model=model.config, data=data.config, steps=steps, moves=TRAINABLE)
    with tempfile.TemporaryDirectory(prefix="ffavatar-personalize-") as folder, contextlib.closing(_Bar(steps)) as bar:
        device = model.rig.points.device
        result = train(config, head, data, None, bar, Path(folder), init=checkpoint, device=device)
        model.add_personal()
        load_weights(result.checkpoint, model)


class _Bar:
    """Reporter that shows the training's progress as one line on a terminal."""

    def __init__(self, steps: int) -> None:
        self._steps, self._progress = steps, ProgressBar("personalizing")

    def close(self) -> None:
        """Print the last state of the line."""
        self._progress.close()

    def report(self, step: int, metrics: Mapping[str, float], checkpoint: Path | None) -> None:
        """Show the number of steps done, as a ``ffavatar_model.training.Reporter``."""
        self._progress.update("steps", step, self._steps)

    def image(self, step: int, name: str, rgb: NDArray[np.uint8]) -> None:
        """Discard the image."""
