"""Loading of checkpoints with their head model, and of avatars with their model; the cache of both.

A checkpoint contains no head model, and an avatar contains no checkpoint. The cache stores heads and checkpoints under
their digests, which the avatar's file names; so the avatar's file is enough to find its head and its checkpoint.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import asdict
from pathlib import Path

import torch

from ffavatar_model.head import HeadModel, load_head, subdivide
from ffavatar_model.head.open_head import OPEN_HEAD, VERSION
from ffavatar_model.io.avatar import AvatarHeader, load_avatar
from ffavatar_model.io.weights import fits_head, load_model, model_file, read_header
from ffavatar_model.model import FFAvatar
from ffavatar_model.networks.gaussians import CanonicalAvatar
from ffavatar_model.pretrained import STUDIO
from flows.avatar.heads import cached_head_path, prepare_head_file
from infra.console import CallError
from pipelines.faces.weight_cache import cache_dir, sha256_of


def default_device() -> torch.device:
    """Return the CUDA device if there is one, otherwise the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def open_model(checkpoint: Path) -> tuple[FFAvatar, Path]:
    """Open a checkpoint with the head model that it was trained on.

    Args:
        checkpoint: A folder written by training, or its model file.

    Returns:
        The model on the default device, and the checkpoint's model file.

    Raises:
        FileNotFoundError: There is no such checkpoint.
        ValueError: The file is not a checkpoint, or its head model is neither in the cache nor the open head.
    """
    header, weights = read_header(checkpoint), model_file(checkpoint)
    head = find_head(str(header.get("head")), str(header.get("head_digest")))
    return load_model(checkpoint, head, default_device()), weights


def find_head(name: str, digest: str) -> HeadModel:
    """Load the head with this name and digest from the cache; if the cache does not have it, load the open head."""
    cached = cached_head_path(name, digest)
    return load_head(cached if cached.is_file() else prepare_head_file(None))


def open_avatar(avatar: Path, checkpoint: Path | None = None) -> tuple[CanonicalAvatar, AvatarHeader, FFAvatar]:
    """Open an avatar with the model that drives it.

    Args:
        avatar: The avatar's file.
        checkpoint: Checkpoint of the model; by default the one that made the avatar, from the cache.

    Returns:
        The canonical avatar (B = 1) on the default device, the avatar's header, and the model on the same device.

    Raises:
        CallError: The avatar's checkpoint is not in the cache, or the avatar was made with another head model or
            subdivision than the checkpoint.
        ValueError: The file is not an avatar.
    """
    canonical, header = load_avatar(avatar, default_device())
    model, _ = open_model(checkpoint or find_checkpoint(header, avatar))
    fits = fits_head(asdict(header), model.head_name, model.head_digest)
    fits = fits and header.subdivisions == model.config.subdivisions
    if not fits or canonical.offsets.shape[1] != len(model.rig.points):
        raise CallError(
            f"{avatar}: bound to head model {header.head}, the checkpoint to {model.head_name}; pass its own"
        )
    return canonical, header, model


def open_avatar_and_head(avatar: Path) -> tuple[CanonicalAvatar, AvatarHeader, HeadModel]:
    """Open an avatar with its head model, without a checkpoint.

    Args:
        avatar: The avatar's file.

    Returns:
        The canonical avatar (B = 1), its header, and the head model before subdivision, all on the CPU.

    Raises:
        CallError: The head model is not in the cache, or the avatar has another number of Gaussians than its head.
    """
    canonical, header = load_avatar(avatar)
    head = find_head(header.head, header.head_digest)
    if not fits_head(asdict(header), head.name, head.digest):
        raise CallError(f"{avatar}: bound to {_missing_head(header)}")
    points = head
    for _ in range(header.subdivisions):
        points = subdivide(points)
    if canonical.offsets.shape[1] != points.n_vertices:
        n = canonical.offsets.shape[1]
        raise CallError(f"{avatar}: has {n} Gaussians, its head {points.n_vertices} points; make the avatar again")
    return canonical, header, head


def _missing_head(header: AvatarHeader) -> str:
    """Return the head model that an avatar needs and that is not here, with the way to get it."""
    if header.head == OPEN_HEAD:
        version = f"version {header.open_head_version or 'unknown'}"
        return f"the open head of {version}, this program's is {VERSION}; make the avatar again from its photos"
    return (
        f"head model {header.head} ({header.head_digest[:12]}), which is not in the cache; use it once in a command "
        "that takes --head"
    )


def cache_checkpoint(weights: Path) -> str:
    """Store a model file in the cache under its digest, and return the digest.

    On the same disk the cached file is a hard link, otherwise a copy.
    """
    digest = sha256_of(weights)
    cached = _cached_checkpoint_path(digest)
    if not cached.is_file():
        cached.parent.mkdir(parents=True, exist_ok=True)
        part = cached.with_suffix(f".{os.getpid()}")
        try:
            os.link(weights, part)
        except OSError:
            shutil.copyfile(weights, part)
        part.replace(cached)
    return digest


def find_checkpoint(header: AvatarHeader, avatar: Path) -> Path:
    """Return the model file that an avatar was made with: from the cache, or the one that comes with the code.

    Args:
        header: Header of the avatar.
        avatar: The avatar's file, which the error message names.

    Returns:
        Path of the model file.

    Raises:
        CallError: The model file is not here.
    """
    cached = _cached_checkpoint_path(header.checkpoint)
    if cached.is_file():
        return cached
    if header.checkpoint == sha256_of(STUDIO):
        return STUDIO
    raise CallError(f"{avatar}: its checkpoint {header.checkpoint[:12]} is not in the cache; pass --checkpoint")


def _cached_checkpoint_path(digest: str) -> Path:
    return cache_dir() / "checkpoints" / f"{digest}.safetensors"
