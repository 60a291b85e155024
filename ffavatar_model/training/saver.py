"""Writing of checkpoints while training continues: the state is copied, and a thread writes the copy."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import torch

from ffavatar_model.model import FFAvatar
from ffavatar_model.training.checkpoint import save_checkpoint
from ffavatar_model.training.config import TrainConfig


class Saver:
    """A writer of one checkpoint at a time. An error in writing is raised by the next call."""

    def __init__(self, folder: Path, config: TrainConfig, model: FFAvatar) -> None:
        self.folder, self.config, self.model = folder, config, model
        self._thread: threading.Thread | None = None
        self._written: Path | None = None
        self._error: BaseException | None = None

    def start(self, state: dict[str, Any], averaged: dict[str, Any] | None, quality: float | None) -> None:
        """Copy the state to host memory and start to write ``folder/step-…``, once the previous checkpoint is written.

        Args:
            state: See ``save_checkpoint``; the model's weights are added here.
            averaged: Averaged weights, or None if weights are not averaged.
            quality: Quality on held-out people, higher is better; None if it was not measured.
        """
        self.wait()
        state = copy_to_host({**state, "weights": self.model.state_dict(), "averaged": averaged})

        def write() -> None:
            try:
                self._written = save_checkpoint(self.folder, self.config, self.model, state, quality)
            except BaseException as error:
                self._error = error

        self._thread = threading.Thread(target=write, name="checkpoint")
        self._thread.start()

    def finished(self) -> Path | None:
        """Return the folder of the checkpoint completed since the last call; None if there is none."""
        if self._thread is not None and not self._thread.is_alive():
            self.wait()
        written, self._written = self._written if self._thread is None else None, None
        return written

    def wait(self) -> None:
        """Wait until the checkpoint in progress is written, and raise its error if writing failed."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._error is not None:
            error, self._error = self._error, None
            raise error


def copy_to_host(value: Any) -> Any:
    """Copy nested dictionaries, lists and tuples, with copies of their tensors in host memory."""
    if isinstance(value, torch.Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        return {name: copy_to_host(v) for name, v in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(copy_to_host(v) for v in value)
    return value
