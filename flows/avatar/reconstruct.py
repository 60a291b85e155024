"""Photos to an avatar, and an avatar with its model again. No Ray, no Prefect."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

import torch
from torch import Tensor

from ffavatar_model.camera import virtual_intrinsics
from ffavatar_model.data.dataset import Face
from ffavatar_model.data.images import composed, prepare
from ffavatar_model.head import HeadModel, load_head
from ffavatar_model.io.avatar import AvatarHeader, load_avatar, save_avatar
from ffavatar_model.io.weights import load_model, model_file, read_header
from ffavatar_model.model import FFAvatar
from ffavatar_model.networks.gaussians import CanonicalAvatar
from ffavatar_model.pretrained import STUDIO
from flows.avatar.heads import head_file, kept_head
from flows.avatar.photos import AlignedFace, FaceAligner
from infra.console import CallError, say
from pipelines.faces.weight_cache import cache_dir, sha256_of


def reconstruct_command(
    images: list[Path], checkpoint: Path | None, steps: int, face: int | None, pack: str | None, out: Path
) -> None:
    """``ffavatar reconstruct``; without a checkpoint the one that comes with the code is used."""
    reconstruct_photos(images, checkpoint or STUDIO, out, steps=steps, face=face, pack=pack)
    say(
        "avatar {out} from {n} photos; drive it: ffavatar animate {out} --driver VIDEO -o OUT.mp4",
        out=out,
        n=len(images),
    )


def reconstruct_photos(
    images: list[Path],
    checkpoint: Path,
    out: Path,
    *,
    steps: int = 0,
    face: int | None = None,
    pack: str | None = None,
) -> Path:
    """Find the face in each photo, and write the avatar of one forward pass over all of them to ``out``.

    With ``steps``, the person's own Gaussians are first fitted to the photos (``flows.avatar.personalize``). The
    checkpoint is kept in the cache under its digest, where ``animate`` finds it again.

    Raises:
        CallError: a photo is missing, no picture, or shows no face or several (``face`` chooses).
        ValueError: the checkpoint is not one, or does not fit the head model.
    """
    model, weights = open_model(checkpoint)
    maker = FaceAligner(pack)
    size = model.config.image_size
    photos = [face_of(maker.from_photo(path, face), size, path.name) for path in images]
    if steps:
        from flows.avatar.personalize import personalize_on_photos

        head = known_head(model.head_name, model.head_digest)
        personalize_on_photos(model, weights, head, photos, steps)
        model.eval()
    sources = composed(torch.stack([photo.pixels for photo in photos]))[0][None].to(model.rig.points.device)
    with torch.inference_mode():
        avatar = model.reconstruct(sources)
    header = AvatarHeader(
        head=model.head_name,
        head_digest=model.head_digest,
        subdivisions=model.config.subdivisions,
        sources=tuple(hashlib.sha256(path.read_bytes()).hexdigest() for path in images),
        checkpoint=remember(weights),
    )
    save_avatar(out, avatar, header)
    return out


def open_avatar(avatar: Path, checkpoint: Path | None = None) -> tuple[CanonicalAvatar, AvatarHeader, FFAvatar]:
    """An avatar with the model that drives it: ``checkpoint``'s, by default the one that made it.

    Raises:
        CallError: the avatar's own checkpoint is not in the cache.
        ValueError: the avatar is not one, or was made with another head or subdivision than the checkpoint's.
    """
    canonical, header = load_avatar(avatar, device())
    model, _ = open_model(checkpoint or recall(header, avatar))
    fits = (header.head_digest, header.subdivisions) == (model.head_digest, model.config.subdivisions)
    if not fits or canonical.offsets.shape[1] != len(model.rig.points):
        raise CallError(
            f"{avatar}: bound to head model {header.head}, the checkpoint to {model.head_name}; pass its own"
        )
    return canonical, header, model


def prepared(portrait: AlignedFace, size: int) -> Tensor:
    """(3, size, size) a portrait as the model takes it."""
    return composed(face_of(portrait, size, "").pixels)[0]


def face_of(portrait: AlignedFace, size: int, name: str) -> Face:
    """A portrait as a picture to train on, camera unknown."""
    side = portrait.crop.shape[0]
    # pixel centres are at whole numbers in the face stack and at +0.5 in the model
    landmarks = (torch.from_numpy(portrait.mesh[:, :2]).float() + 0.5) / side
    pixels, K = prepare(portrait.crop, portrait.matte, landmarks, size), virtual_intrinsics(size)
    return Face(id=name, pixels=pixels, landmarks=landmarks, K=K, head_to_camera=None, moment=0)


def open_model(checkpoint: Path) -> tuple[FFAvatar, Path]:
    """A checkpoint's model with the head that it was trained on (the open head, or one in the cache), and its file."""
    header, weights = read_header(checkpoint), model_file(checkpoint)
    head = known_head(str(header.get("head")), str(header.get("head_digest")))
    return load_model(checkpoint, head, device()), weights


def known_head(name: str, digest: str) -> HeadModel:
    """The head of this name and digest where the cache has it, the open head where not."""
    kept = kept_head(name, digest)
    return load_head(kept if kept.is_file() else head_file(None))


def open_avatar_and_head(avatar: Path) -> tuple[CanonicalAvatar, AvatarHeader, HeadModel]:
    """An avatar with the head model that it is bound to, not subdivided: what moves it, without a checkpoint.

    Raises ``CallError`` where that head model is not at hand.
    """
    canonical, header = load_avatar(avatar)
    head = known_head(header.head, header.head_digest)
    if head.digest != header.head_digest:
        raise CallError(
            f"{avatar}: bound to head model {header.head} ({header.head_digest[:12]}), which is not in the cache; use "
            "it once in a command that takes --head"
        )
    return canonical, header, head


def device() -> torch.device:
    """CUDA where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def remember(weights: Path) -> str:
    """Keep a model file in the cache under its digest (a hard link where the disk is the same); returns the digest."""
    digest = sha256_of(weights)
    kept = cache_dir() / "checkpoints" / f"{digest}.safetensors"
    if not kept.is_file():
        kept.parent.mkdir(parents=True, exist_ok=True)
        part = kept.with_suffix(f".{os.getpid()}")
        try:
            os.link(weights, part)
        except OSError:
            shutil.copyfile(weights, part)
        part.replace(kept)
    return digest


def recall(header: AvatarHeader, avatar: Path) -> Path:
    """The model file that an avatar was made with."""
    kept = cache_dir() / "checkpoints" / f"{header.checkpoint}.safetensors"
    if not kept.is_file():
        raise CallError(f"{avatar}: its checkpoint {header.checkpoint[:12]} is not in the cache; pass --checkpoint")
    return kept
