"""Files of head models: safetensors with one JSON entry in the header. Loading executes no code from the file."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save

from ffavatar_model.atomic_file import write_atomically
from ffavatar_model.head.interface import HeadModel

FORMAT = 1
"""Version of the file format; it is increased when readers of the old format would misread the new one."""
_INTEGER = {"triangles", "uv_triangles", "landmark_index", "landmark_triangles"}
_NAMES = ("region_names", "action_names")


def save_head(head: HeadModel, path: Path) -> None:
    """Write a head atomically; the same head always gives the same bytes."""
    header = {"format": FORMAT, "name": head.name, **{name: list(getattr(head, name)) for name in _NAMES}}
    # One metadata entry only, because safetensors writes several entries in arbitrary order.
    data = save(
        {name: tensor.detach().cpu().contiguous().clone() for name, tensor in head.tensors().items()},
        metadata={"head": json.dumps(header, sort_keys=True)},
    )
    write_atomically(path, data)


def load_head(path: Path, device: torch.device | str = "cpu") -> HeadModel:
    """Read a head from a file written by ``save_head``.

    Args:
        path: The file.
        device: Device of the tensors.

    Returns:
        The head model.

    Raises:
        FileNotFoundError: The file is missing.
        ValueError: The file is not a head model of this format, or is damaged; the message names the file.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such head model file")
    try:
        tensors = load_file(path)
        with safe_open(path, "pt") as opened:
            header = json.loads((opened.metadata() or {}).get("head", "{}"))
    except (SafetensorError, ValueError, OSError, RecursionError) as error:
        raise ValueError(
            f"{path}: not a readable safetensors file ({error}); delete it to have it built anew"
        ) from None
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        found = header.get("format") if isinstance(header, dict) else None
        raise ValueError(f"{path}: head model format {found!r}, this version reads {FORMAT}")
    for name, tensor in tensors.items():
        expected = torch.int64 if name in _INTEGER else torch.float32
        if tensor.dtype != expected:
            raise ValueError(f"{path}: tensor {name} is {tensor.dtype}, expected {expected}")
    names = {name: tuple(str(n) for n in header.get(name, ())) for name in _NAMES}
    try:
        return HeadModel(name=str(header.get("name", path.stem)), **names, **tensors).to(device)  # type: ignore[arg-type]
    except TypeError as error:
        raise ValueError(f"{path}: not a head model ({error})") from None
