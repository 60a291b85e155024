"""Command ``ffavatar reconstruct``: make an avatar from photos of a person, without Ray and Prefect."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ffavatar_model.camera import virtual_intrinsics
from ffavatar_model.data.dataset import LoadedImage
from ffavatar_model.data.images import compose_image, prepare_image
from ffavatar_model.head.open_head import OPEN_HEAD, VERSION
from ffavatar_model.io.avatar import AvatarHeader, save_avatar
from ffavatar_model.pretrained import STUDIO
from flows.avatar.load_models import cache_checkpoint, find_head, open_model
from flows.avatar.outputs import check_output
from flows.avatar.photos import AlignedFace, AlignedPhoto, FaceAligner
from infra.console import CallError, ProgressBar, say

Vector = npt.NDArray[np.float32]


@dataclass(frozen=True)
class PhotoChoice:
    """One photo of the person."""

    path: Path
    """The image file."""
    face: int | None
    """Number of the person's face, counted from the left, beginning with 1; None if the photo shows only one."""


def parse_photo(word: str, face: int | None) -> PhotoChoice:
    """Read an argument ``IMAGE`` or ``IMAGE:2``, the second face from the left of ``IMAGE``.

    Args:
        word: The argument.
        face: Number of the face if the argument names none.

    Returns:
        The photo; a file whose own name ends in a colon and a number is that file.
    """
    path, _, number = word.rpartition(":")
    if path and number.isdecimal() and int(number) > 0 and not Path(word).exists():
        return PhotoChoice(Path(path), int(number))
    return PhotoChoice(Path(word), face)


def reconstruct_command(
    images: Sequence[str],
    checkpoint: Path | None,
    steps: int,
    face: int | None,
    pack: str | None,
    force: bool,
    out: Path,
) -> None:
    """Run ``ffavatar reconstruct``: call ``reconstruct_photos``, by default with the checkpoint ``STUDIO``."""
    photos = [parse_photo(word, face) for word in images]
    reconstruct_photos(photos, checkpoint or STUDIO, out, steps=steps, pack=pack, force=force)
    n = f"{len(photos)} photo" + "s" * (len(photos) != 1)
    say("avatar {out} from {n}; drive it: ffavatar animate {out} --driver VIDEO -o OUT.mp4", out=out, n=n)


def reconstruct_photos(
    images: Sequence[Path | PhotoChoice],
    checkpoint: Path,
    out: Path,
    *,
    steps: int = 0,
    pack: str | None = None,
    force: bool = False,
) -> Path:
    """Find the face in each photo, and write the avatar from one forward pass over all photos.

    The checkpoint is copied into the cache under its digest, where ``animate`` finds it later.

    Args:
        images: Photos of one person.
        checkpoint: A folder written by training, or its model file.
        out: The avatar's file.
        steps: Number of training steps on the photos before the avatar is made; they fit the person's own Gaussians
            (``flows.avatar.personalize``). 0 for none.
        pack: Face pack of the detector; None for the default pack.
        force: True to make an avatar of photos that seem to show different people.

    Returns:
        ``out``.

    Raises:
        CallError: A photo cannot be used (``FaceAligner.align_photo``), the photos seem to show different people, or
            ``out`` is a photo, or has another ending than ``.safetensors``.
        ValueError: The file is not a checkpoint, holds values that are not finite, or does not fit the head model.
    """
    choices = [image if isinstance(image, PhotoChoice) else PhotoChoice(image, None) for image in images]
    paths = [choice.path for choice in choices]
    check_output("-o", out, [*paths, checkpoint], ("", ".safetensors"))
    with ProgressBar("reconstructing") as bar:
        bar.update("photos", 0, len(choices))
        model, weights = open_model(checkpoint)
        aligner, aligned = FaceAligner(pack), []
        for n, choice in enumerate(choices, 1):
            aligned.append(aligner.align_photo(choice.path, choice.face))
            bar.update("photos", n, len(choices))
    _say_turns(paths, aligned)
    check_same_person(paths, [photo.embedding for photo in aligned], aligner.least_similarity, force)
    size = model.config.image_size
    photos = [to_loaded_image(photo.face, size, path.name) for path, photo in zip(paths, aligned, strict=True)]
    if steps:
        from flows.avatar.personalize import personalize_on_photos

        say("personalizing: {steps} steps, about 1 s each on two CPU cores; --fast leaves them out", steps=steps)
        personalize_on_photos(model, weights, find_head(model.head_name, model.head_digest), photos, steps)
        model.eval()
    sources = compose_image(torch.stack([photo.pixels for photo in photos]))[0][None].to(model.rig.points.device)
    with torch.inference_mode():
        avatar = model.reconstruct(sources)
    header = AvatarHeader(
        head=model.head_name,
        head_digest=model.head_digest,
        open_head_version=VERSION if model.head_name == OPEN_HEAD else 0,
        subdivisions=model.config.subdivisions,
        sources=tuple(hashlib.sha256(path.read_bytes()).hexdigest() for path in paths),
        checkpoint=cache_checkpoint(weights),
    )
    save_avatar(out, avatar, header)
    return out


def check_same_person(
    paths: Sequence[Path], embeddings: Sequence[Vector], least: float | None, force: bool = False
) -> None:
    """Check that photos show one person; with ``force``, only print a line if they do not seem to.

    Args:
        paths: Photos.
        embeddings: Embedding (D,) of the face of each photo, of unit length.
        least: Least cosine similarity of one person; None if the face pack is not calibrated, which checks nothing.
        force: True to print the line and raise nothing.

    Raises:
        CallError: A photo's mean similarity to the others is below ``least``.
    """
    if least is None or len(embeddings) < 2:
        return
    among = np.stack(embeddings) @ np.stack(embeddings).T
    mean = (among.sum(1) - among.diagonal()) / (len(embeddings) - 1)
    odd = int(mean.argmin())
    if mean[odd] >= least:
        return
    line = (
        f"{paths[odd]}: seems to show another person than the other photos (similarity {mean[odd]:.2f}, one person's "
        f"is at least {least:.2f})"
    )
    if not force:
        raise CallError(f"{line}; leave it out, or add --force")
    say("{line}", line=line)


def _say_turns(paths: Sequence[Path], photos: Sequence[AlignedPhoto]) -> None:
    for path, photo in zip(paths, photos, strict=True):
        if photo.turned_deg:
            degrees = (photo.turned_deg + 180.0) % 360.0 - 180.0
            say("{path}: turned by {degrees:.0f} degrees, so that the face is upright", path=path, degrees=degrees)


def to_model_input(face: AlignedFace, size: int) -> Tensor:
    """Convert an aligned face to the model's input: (3, size, size) RGB in 0 to 1, over the background colour."""
    return compose_image(to_loaded_image(face, size, "").pixels)[0]


def to_loaded_image(face: AlignedFace, size: int, name: str) -> LoadedImage:
    """Convert an aligned face to a training image without a known camera.

    Args:
        face: The aligned face, with crop, matte and mesh.
        size: Pixels per side of the image.
        name: Identifier of the image.

    Returns:
        The image at timestep 0.
    """
    side = face.crop.shape[0]
    # pixel centres are at whole numbers in ``pipelines.faces`` and at whole numbers + 0.5 in the model
    landmarks = (torch.from_numpy(face.mesh[:, :2]).float() + 0.5) / side
    pixels, K = prepare_image(face.crop, face.matte, landmarks, size), virtual_intrinsics(size)
    return LoadedImage(id=name, pixels=pixels, landmarks=landmarks, K=K, head_to_camera=None, timestep=0)
