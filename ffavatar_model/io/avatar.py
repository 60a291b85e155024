"""Avatar files: safetensors with a small JSON header. Loading executes no code and checks all values."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save

from ffavatar_model.atomic_file import write_atomically
from ffavatar_model.networks.gaussians import CanonicalAvatar

FORMAT = 1
_TAIL = {"offsets": (3,), "rotations": (4,), "scales": (3,), "opacities": (), "colours": (3,)}
_RANGE = {
    "offsets": (-1.0, 1.0),
    "rotations": (-1.001, 1.001),
    "scales": (0.0, 1.0),
    "opacities": (0.0, 1.0),
    "colours": (0.0, 1.0),
}
_DIGEST, _NAME = re.compile(r"[0-9a-f]{0,64}"), re.compile(r"[^/\\\x00-\x1f]{1,200}")
_LONGEST = 10_000
_FLAT = 1e-6


@dataclass(frozen=True, kw_only=True)
class AvatarHeader:
    """Header of an avatar file: the avatar's head model and origin."""

    head: str
    """Name of the head model to which the Gaussians are bound."""
    head_digest: str
    """Digest of that head model."""
    open_head_version: int = 0
    """Version of the open head (``open_head.VERSION``); 0 for other heads, and in files that do not say it."""
    subdivisions: int
    """Number of subdivisions of the head model."""
    sources: tuple[str, ...] = ()
    """sha256 of each source image."""
    checkpoint: str = ""
    """sha256 of the model's file."""
    licence: str = ""
    """Permitted use of the source images; empty if unknown."""
    consent: str = ""
    """Consent of the person shown; empty if unknown."""


def save_avatar(path: Path, avatar: CanonicalAvatar, header: AvatarHeader) -> None:
    """Write one avatar atomically.

    Args:
        path: Path of the file.
        avatar: Canonical Gaussians with B = 1.
        header: Header of the file.

    Raises:
        ValueError: B is not 1, or the avatar has an identity shape, for which there is no file format yet.
    """
    if len(avatar.offsets) != 1:
        raise ValueError(f"{path}: a file holds one avatar, not {len(avatar.offsets)}")
    if avatar.shape is not None:
        raise ValueError(f"{path}: there is no file format of avatars with an identity shape; use a model with shape=0")
    tensors = {name: value[0].detach().float().cpu().contiguous() for name, value in avatar.tensors().items()}
    text = json.dumps({"format": FORMAT, **asdict(header)}, sort_keys=True)
    write_atomically(path, save(tensors, metadata={"ffavatar_avatar": text}))


def load_avatar(path: Path, device: torch.device | str = "cpu") -> tuple[CanonicalAvatar, AvatarHeader]:
    """Read an avatar and its header.

    Args:
        path: Path of the file.
        device: Device of the tensors.

    Returns:
        Canonical Gaussians with B = 1, and the header.

    Raises:
        FileNotFoundError: The file is missing.
        ValueError: The file is not a valid avatar: it has another format, tensors are missing or of a wrong shape, or
            values are not finite or out of range. The message names the file.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such avatar; make one with 'ffavatar reconstruct'")
    try:
        with safe_open(path, "pt") as opened:
            fields = json.loads((opened.metadata() or {}).get("ffavatar_avatar", "null"))
        tensors = load_file(path)
    except (SafetensorError, OSError, ValueError, RecursionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"{path}: not an avatar file ({reason}); make one with 'ffavatar reconstruct'") from None
    if not isinstance(fields, dict) or fields.pop("format", None) != FORMAT:
        raise ValueError(f"{path}: not an avatar file of format {FORMAT}")
    header = _header(path, fields)
    missing = set(_TAIL) ^ set(tensors)
    if missing:
        raise ValueError(f"{path}: tensors {sorted(tensors)}, expected {sorted(_TAIL)}")
    n = tensors["offsets"].shape[0] if tensors["offsets"].ndim else 0
    for name, tail in _TAIL.items():
        value, (low, high) = tensors[name], _RANGE[name]
        if value.dtype != torch.float32 or tuple(value.shape) != (n, *tail) or n == 0:
            raise ValueError(f"{path}: {name} is {value.dtype} {tuple(value.shape)}, expected float32 {(n, *tail)}")
        if not bool((value >= low).all() and (value <= high).all()):
            raise ValueError(f"{path}: {name} has values outside {low} to {high}")
    if float(tensors["scales"].max()) < _FLAT:
        raise ValueError(f"{path}: no scale is above {_FLAT:g} m; the Gaussians are flat, make the avatar again")
    lengths = tensors["rotations"].norm(dim=-1)
    if not bool(((lengths > 0.99) & (lengths < 1.01)).all()):
        raise ValueError(f"{path}: rotations are not unit quaternions (the shortest has length {lengths.min():.3f})")
    return CanonicalAvatar(**{name: tensors[name][None].to(device) for name in _TAIL}), header


def _header(path: Path, fields: dict[str, object]) -> AvatarHeader:
    """Check the type of each field, as the file may come from anywhere, and build the header."""
    text = ("head", "head_digest", "checkpoint", "licence", "consent")
    sources, subdivisions = fields.get("sources", []), fields.get("subdivisions")
    version = fields.get("open_head_version", 0)
    valid = (
        set(fields) <= {*text, "sources", "subdivisions", "open_head_version"}
        and isinstance(version, int)
        and version >= 0
        and all(isinstance(fields.get(name, ""), str) and len(str(fields.get(name, ""))) <= _LONGEST for name in text)
        and {"head", "head_digest"} <= set(fields)
        and isinstance(sources, Sequence)
        and all(isinstance(s, str) for s in sources)
        # names and digests become parts of paths in the cache
        and all(_DIGEST.fullmatch(str(d)) for d in (fields.get("head_digest"), fields.get("checkpoint", ""), *sources))
        and _NAME.fullmatch(str(fields.get("head"))) is not None
        and isinstance(subdivisions, int)
        and 0 <= subdivisions <= 2
    )
    if not valid:
        raise ValueError(f"{path}: its header is not an avatar's; the file may be damaged")
    values = {name: str(fields.get(name, "")) for name in text}
    fields = {"open_head_version": version, "subdivisions": subdivisions, "sources": tuple(sources)}  # type: ignore[arg-type]
    return AvatarHeader(**values, **fields)  # type: ignore[arg-type]
