"""Checkpoints from which a run can resume: a folder with the model and the state of training."""

from __future__ import annotations

import io
import pickle
import re
import shutil
from pathlib import Path
from typing import Any

import torch

from ffavatar_model.atomic_file import write_atomically
from ffavatar_model.config import to_dict
from ffavatar_model.io.weights import MODEL_FILE, read_header, save_weights
from ffavatar_model.model import FFAvatar
from ffavatar_model.training.config import TrainConfig

STATE_FILE = "training.pt"
_NAME = re.compile(r"step-(\d{8})")


def save_checkpoint(
    root: Path, config: TrainConfig, model: FFAvatar, state: dict[str, Any], quality: float | None = None
) -> Path:
    """Write the checkpoint of a step, and delete the checkpoints that ``checkpoints_to_keep`` does not return.

    The folder appears complete or not at all.

    Args:
        root: The run's folder; the checkpoint is ``root/step-NNNNNNNN``, by ``state["step"]``.
        config: The run's configuration; it is stored in the model file's header.
        model: The model in training.
        state: Trained weights, averaged weights (or None), optimizer, progress and random state, in host memory. It
            is stored as ``training.pt``. ``model.safetensors`` is the model for inference, with the averaged weights if
            there are any.
        quality: Last measured quality on held-out people, higher is better; stored in the model file's header.

    Returns:
        The checkpoint's folder.
    """
    folder = root / f"step-{state['step']:08d}"
    part = root / f".{folder.name}.part"
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    averaged = state["averaged"]
    weights = state["weights"] if averaged is None else {**state["weights"], **averaged}
    notes = {"stage": config.stage, "step": state["step"], "run": to_dict(config), "quality": quality}
    save_weights(part / MODEL_FILE, model, weights, **notes)
    buffer = io.BytesIO()
    torch.save(state, buffer)
    write_atomically(part / STATE_FILE, buffer.getvalue())
    shutil.rmtree(folder, ignore_errors=True)
    part.replace(folder)
    keep = checkpoints_to_keep(root, config.keep, config.keep_best)
    for old in list_checkpoints(root):
        if old not in keep:
            shutil.rmtree(old)
    return folder


def checkpoints_to_keep(root: Path, newest: int, best: int) -> set[Path]:
    """Return the checkpoints in a run's folder that are to be kept.

    Args:
        root: The run's folder.
        newest: Number of newest checkpoints to keep.
        best: Number of checkpoints with the highest measured quality to keep.
    """
    checkpoints = list_checkpoints(root)
    measured = [(quality, p) for p in checkpoints if (quality := read_header(p).get("quality")) is not None]
    return {*checkpoints[-newest:], *(p for _, p in sorted(measured, reverse=True)[:best])}


def list_checkpoints(root: Path) -> list[Path]:
    """Return the complete checkpoints in a run's folder, oldest first."""
    return sorted(p for p in root.glob("step-*") if _NAME.fullmatch(p.name)) if root.is_dir() else []


def load_state(folder: Path) -> dict[str, Any]:
    """Load a checkpoint's state of training: only tensors and plain values; no code from the file is executed.

    Raises:
        FileNotFoundError: The folder has no state of training.
        ValueError: The file is not readable; the message names it in one line.
    """
    path = folder / STATE_FILE
    if not path.is_file():
        raise FileNotFoundError(f"{folder}: no state of training ({STATE_FILE}); give a folder written by training")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{path}: not a readable state of training ({reason})") from None
