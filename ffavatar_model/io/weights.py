"""Model checkpoints: a safetensors file, with the configuration and the head model's digest in its header.

The file never contains the head model itself, because FLAME's licence does not allow that.
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
    """Write a checkpoint atomically.

    Args:
        path: Path of the file.
        model: Model whose configuration and head digest are written.
        weights: Tensors by name; None writes the model's own.
        notes: Additional entries of the header.
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
    """Read the header of a checkpoint, given as a folder or as its model file.

    Raises:
        FileNotFoundError: There is no such checkpoint.
        ValueError: The file is not a checkpoint of this format; the message names the file.
    """
    path = model_file(path)
    try:
        with safe_open(path, "pt") as opened:
            header = json.loads((opened.metadata() or {}).get("ffavatar", "null"))
    except (SafetensorError, OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not a readable checkpoint ({error}); give a folder written by training") from None
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise ValueError(f"{path}: no checkpoint of format {FORMAT}; give a folder written by training")
    return header


def model_file(path: Path) -> Path:
    """Return the model file of a checkpoint, given as a folder or as that file.

    Raises:
        FileNotFoundError: There is no such file.
    """
    file = path / MODEL_FILE if path.is_dir() else path
    if not file.is_file():
        raise FileNotFoundError(f"{path}: no such checkpoint; give a folder that holds {MODEL_FILE}")
    return file


def load_model(path: Path, head: HeadModel, device: torch.device | str = "cpu") -> FFAvatar:
    """Load the model of a checkpoint in ``eval`` mode; its configuration is read from the checkpoint.

    Args:
        path: Folder of the checkpoint, or its model file.
        head: Head model with which the model was trained, before subdivision.
        device: Device of the model.

    Returns:
        The model.

    Raises:
        FileNotFoundError: There is no such checkpoint.
        ValueError: The checkpoint was made with another head model, or is invalid.
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
    """Return True if a checkpoint was trained with a head: of equal digest, or the same version of the open head.

    The open head is built on each machine, and rounding differs between machines, so its digest may differ.

    Args:
        header: Header of the checkpoint.
        name: Name of the head model.
        digest: Digest of the head model.
    """
    same_open = name == header.get("head") == OPEN_HEAD and header.get("open_head_version") == VERSION
    return header.get("head_digest") == digest or same_open


def load_weights(path: Path, model: FFAvatar) -> None:
    """Load a checkpoint's weights into a model of the same configuration.

    A person's own parameters are loaded if both the checkpoint and the model have them.

    Args:
        path: Folder of the checkpoint, or its model file.
        model: Model with the same head model as the checkpoint.

    Raises:
        ValueError: The head model or a parameter does not fit; the message names the first such parameter and both
            shapes.
    """
    header = read_header(path)
    if not fits_head(header, model.head_name, model.head_digest):
        raise ValueError(f"{path}: made with head model {header.get('head')!r}, this model has {model.head_name!r}")
    check_and_load(load_file(model_file(path)), model, str(path))


def check_and_load(tensors: Mapping[str, Tensor], model: nn.Module, where: str) -> None:
    """Check the names and shapes of tensors, and load them into a module.

    Args:
        tensors: Tensors by name. Those of a person's own parameters may be missing in ``tensors`` or in the module.
            Those of the identity shape may all be missing in ``tensors``: the untrained module predicts shape 0.
        model: The module.
        where: Source of the tensors, for error messages.

    Raises:
        ValueError: A parameter is missing, unknown, of another shape or not finite; the message names it.
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
    odd = next((name for name in sorted(tensors) if not bool(tensors[name].isfinite().all())), None)
    if odd is not None:
        raise ValueError(f"{where}: parameter {odd} has values that are not finite; the file is damaged, use another")
    for name in sorted(tensors):
        if name not in own and not name.startswith("personal."):
            shape = tuple(tensors[name].shape)
            raise ValueError(f"{where}: parameter {name} {shape} is not in the model; {_WAY_OUT}")
    fitting = {name: value for name, value in tensors.items() if name in own and value.shape == own[name].shape}
    model.load_state_dict(fitting, strict=False)
