"""An avatar as a file: safetensors with a small JSON header. Loading executes nothing and trusts nothing."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save

from ffavatar_model.io.atomic import write_atomically
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


@dataclass(frozen=True, kw_only=True)
class AvatarHeader:
    """What an avatar file says about itself."""

    head: str
    """Name of the head model that the Gaussians are bound to."""
    head_digest: str
    subdivisions: int
    """How often that head model was subdivided."""
    sources: tuple[str, ...] = ()
    """sha256 of each source picture."""
    checkpoint: str = ""
    """sha256 of the model's file."""
    licence: str = ""
    """What the source pictures may be used for; empty when nobody said."""
    consent: str = ""
    """Who agreed to what; empty when nobody said."""


def save_avatar(path: Path, avatar: CanonicalAvatar, header: AvatarHeader) -> None:
    """Write one avatar (tensors with B = 1), atomically. Raises ``ValueError`` where B is not 1."""
    if len(avatar.offsets) != 1:
        raise ValueError(f"{path}: one avatar a file, {len(avatar.offsets)} were given")
    tensors = {name: value[0].detach().float().cpu().contiguous() for name, value in avatar._asdict().items()}
    text = json.dumps({"format": FORMAT, **asdict(header)}, sort_keys=True)
    write_atomically(path, save(tensors, metadata={"ffavatar_avatar": text}))


def load_avatar(path: Path, device: torch.device | str = "cpu") -> tuple[CanonicalAvatar, AvatarHeader]:
    """Read an avatar (B = 1) and its header.

    Raises ``FileNotFoundError``, or ``ValueError`` with one line naming the file, for anything but a whole avatar of
    this format: other formats, missing or misshapen tensors, values that are not finite or out of range.
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
    lengths = tensors["rotations"].norm(dim=-1)
    if not bool(((lengths > 0.99) & (lengths < 1.01)).all()):
        raise ValueError(f"{path}: rotations are no unit quaternions ({float(lengths.min()):.3f} long at the least)")
    return CanonicalAvatar(**{name: tensors[name][None].to(device) for name in _TAIL}), header


def _header(path: Path, fields: dict[str, object]) -> AvatarHeader:
    """Types are checked: a header comes from anywhere."""
    text = ("head", "head_digest", "checkpoint", "licence", "consent")
    sources, subdivisions = fields.get("sources", []), fields.get("subdivisions")
    whole = (
        set(fields) <= {*text, "sources", "subdivisions"}
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
    if not whole:
        raise ValueError(f"{path}: its header does not say what an avatar's says; it may be damaged")
    values = {name: str(fields.get(name, "")) for name in text}
    return AvatarHeader(**values, subdivisions=subdivisions, sources=tuple(sources))  # type: ignore[arg-type]
