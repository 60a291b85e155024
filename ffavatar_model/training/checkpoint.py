"""Checkpoints that hold everything a run needs to go on: a folder with the model and the state of training."""

from __future__ import annotations

import io
import pickle
import re
import shutil
from pathlib import Path
from typing import Any

import torch

from ffavatar_model.config import to_dict
from ffavatar_model.files import write_atomically
from ffavatar_model.training.config import TrainConfig
from ffavatar_model.training.objective import Objective
from ffavatar_model.weights import MODEL_FILE, save_weights

STATE_FILE = "training.pt"
_NAME = re.compile(r"step-(\d{8})")


def save_checkpoint(
    root: Path, config: TrainConfig, objective: Objective, state: dict[str, Any], averaged: dict[str, Any] | None
) -> Path:
    """Write ``root/step-NNNNNNNN`` for ``state["step"]`` and delete all but the newest ``config.keep``.

    ``model.safetensors`` is the model for use (the averaged one where there is one); ``training.pt`` has the
    weights as they are trained, optimizer and progress. The folder appears whole or not at all.
    """
    folder = root / f"step-{state['step']:08d}"
    part = root / f".{folder.name}.part"
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    model = objective.model
    weights = None if averaged is None else {**model.state_dict(), **averaged}
    notes = {"stage": config.stage, "step": state["step"], "run": to_dict(config)}
    save_weights(part / MODEL_FILE, model, weights, **notes)
    buffer = io.BytesIO()
    torch.save({**state, "weights": model.state_dict(), "averaged": averaged}, buffer)
    write_atomically(part / STATE_FILE, buffer.getvalue())
    shutil.rmtree(folder, ignore_errors=True)
    part.replace(folder)
    for old in list_checkpoints(root)[: -config.keep]:
        shutil.rmtree(old)
    return folder


def list_checkpoints(root: Path) -> list[Path]:
    """Whole checkpoints in a run's folder, oldest first."""
    return sorted(p for p in root.glob("step-*") if _NAME.fullmatch(p.name)) if root.is_dir() else []


def load_state(folder: Path) -> dict[str, Any]:
    """The state of training of a checkpoint: tensors and plain values alone; nothing in the file is executed.

    Raises ``FileNotFoundError`` or ``ValueError`` with one line that names the file.
    """
    path = folder / STATE_FILE
    if not path.is_file():
        raise FileNotFoundError(f"{folder}: no state of training ({STATE_FILE}); give a folder written by training")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{path}: not a readable state of training ({reason})") from None
