"""Model checkpoints: one safetensors file, with the configuration and the head's digest in its header.

The file never holds the head model itself: FLAME's licence does not allow that.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor, nn

from ffavatar_model.atomic_file import write_atomically
from ffavatar_model.config import from_dict, to_dict
from ffavatar_model.head import HeadModel
from ffavatar_model.head.open_head import OPEN_HEAD, VERSION
from ffavatar_model.model import FFAvatar

FORMAT = 1
MODEL_FILE = "model.safetensors"
_WAY_OUT = "start from a checkpoint of this configuration, or choose the checkpoint's own with --set model"


def save_weights(path: Path, model: FFAvatar, weights: Mapping[str, Tensor] | None = None, **notes: Any) -> None:
    """Write a checkpoint, atomically.

    Args:
        path: The file.
        model: Gives the configuration and the head's digest.
        weights: Tensors by name; the model's own by default.
        notes: Further entries of the header.
    """
    header = {
        "format": FORMAT,
        "model": to_dict(model.config),
        "personal": model.personal is not None,
        "head": model.head_name,
        "head_digest": model.head_digest,
        **notes,
    }
    if model.head_name == OPEN_HEAD:
        header["open_head_version"] = VERSION
    tensors = {name: value.detach().cpu().contiguous() for name, value in (weights or model.state_dict()).items()}
    write_atomically(path, save(tensors, metadata={"ffavatar": json.dumps(header, sort_keys=True)}))


def read_header(path: Path) -> dict[str, Any]:
    """Read the header of a checkpoint: a folder or its model file.

    Raises:
        FileNotFoundError: There is no such checkpoint.
        ValueError: The file is not a checkpoint of this format; the message names it.
    """
    path = model_file(path)
    try:
        with safe_open(path, "pt") as opened:
            header = json.loads((opened.metadata() or {}).get("ffavatar", "null"))
    except (SafetensorError, OSError, ValueError) as error:
        raise ValueError(f"{path}: not a readable checkpoint ({error}); give a folder written by training") from None
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise ValueError(f"{path}: no checkpoint of format {FORMAT}; give a folder written by training")
    return header


def model_file(path: Path) -> Path:
    """Return the safetensors file of a checkpoint: a folder or that file.

    Raises:
        FileNotFoundError: There is no such file.
    """
    file = path / MODEL_FILE if path.is_dir() else path
    if not file.is_file():
        raise FileNotFoundError(f"{path}: no such checkpoint; give a folder that holds {MODEL_FILE}")
    return file


def load_model(path: Path, head: HeadModel, device: torch.device | str = "cpu") -> FFAvatar:
    """Load the model of a checkpoint, with the checkpoint's configuration, in ``eval`` mode.

    Args:
        path: The checkpoint, a folder or its model file.
        head: The head model that it was trained with, not subdivided.
        device: Device of the model.

    Returns:
        The model.

    Raises:
        FileNotFoundError: There is no such checkpoint.
        ValueError: The checkpoint was made with another head model, or is not valid.
    """
    header = read_header(path)
    if not fits_head(header, head.name, head.digest):
        raise ValueError(
            f"{path}: made with head model {header.get('head')!r} ({str(header.get('head_digest'))[:12]}), not with "
            f"{head.name!r} ({head.digest[:12]}); use the head model that it was trained with"
        )
    model = FFAvatar(from_dict(FFAvatar.Config, header["model"]), head)
    if header.get("personal"):
        model.add_personal()
    load_weights(path, model)
    return model.to(device).eval()


def fits_head(header: Mapping[str, Any], name: str, digest: str) -> bool:
    """Check that a checkpoint was trained on a head: the same digest, or the open head of the same version.

    The open head is built on each machine, and its last bits depend on that machine's linear algebra.

    Args:
        header: Header of the checkpoint.
        name: Name of the head model.
        digest: Its digest.

    Returns:
        True where they fit.
    """
    same_open = name == header.get("head") == OPEN_HEAD and header.get("open_head_version") == VERSION
    return header.get("head_digest") == digest or same_open


def load_weights(path: Path, model: FFAvatar) -> None:
    """Load a checkpoint's weights into a model of the same configuration.

    A person's own parameters are loaded where both have them.

    Args:
        path: The checkpoint, a folder or its model file.
        model: The model; its head must be the checkpoint's.

    Raises:
        ValueError: The head or a parameter does not fit; the message names the first such parameter and both shapes.
    """
    header = read_header(path)
    if not fits_head(header, model.head_name, model.head_digest):
        raise ValueError(f"{path}: made with head model {header.get('head')!r}, this model has {model.head_name!r}")
    check_and_load(load_file(model_file(path)), model, str(path))


def check_and_load(tensors: Mapping[str, Tensor], model: nn.Module, where: str) -> None:
    """Load tensors into a module after a check of names and shapes.

    Args:
        tensors: Tensors by name; those of a person's own parameters may be absent on either side. Those of the identity
            shape may all be absent here: untrained, it is zero, and the model is the one without a shape.
        model: The module.
        where: Source of the tensors, for the message.

    Raises:
        ValueError: A parameter is missing, unknown or of another shape.
    """
    own = model.state_dict()
    optional = ("personal.",) if any(name.startswith("identity.") for name in tensors) else ("personal.", "identity.")
    for name, value in own.items():
        if name.startswith(optional):
            continue
        if name not in tensors:
            raise ValueError(f"{where}: parameter {name} {tuple(value.shape)} of the model is missing; {_WAY_OUT}")
        if tensors[name].shape != value.shape:
            found, expected = tuple(tensors[name].shape), tuple(value.shape)
            raise ValueError(f"{where}: parameter {name} has shape {found}, the model {expected}; {_WAY_OUT}")
    for name in sorted(tensors):
        if name not in own and not name.startswith("personal."):
            shape = tuple(tensors[name].shape)
            raise ValueError(f"{where}: parameter {name} {shape} is not in the model; {_WAY_OUT}")
    fitting = {name: value for name, value in tensors.items() if name in own and value.shape == own[name].shape}
    model.load_state_dict(fitting, strict=False)
