"""Command ``ffavatar reconstruct``: make an avatar from photos of a person, without Ray and Prefect."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from torch import Tensor

from ffavatar_model.camera import virtual_intrinsics
from ffavatar_model.data.dataset import LoadedImage
from ffavatar_model.data.images import compose_image, prepare_image
from ffavatar_model.io.avatar import AvatarHeader, save_avatar
from ffavatar_model.pretrained import STUDIO
from flows.avatar.load_models import cache_checkpoint, find_head, open_model
from flows.avatar.photos import AlignedFace, FaceAligner
from infra.console import say


def reconstruct_command(
    images: list[Path], checkpoint: Path | None, steps: int, face: int | None, pack: str | None, out: Path
) -> None:
    """Run ``ffavatar reconstruct``: call ``reconstruct_photos``, by default with the checkpoint ``STUDIO``."""
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
    """Find the face in each photo, and write the avatar from one forward pass over all photos.

    The checkpoint is copied into the cache under its digest, where ``animate`` finds it later.

    Args:
        images: Photos of one person.
        checkpoint: A folder written by training, or its model file.
        out: The avatar's file.
        steps: Number of training steps on the photos before the avatar is made; they fit the person's own Gaussians
            (``flows.avatar.personalize``). 0 for none.
        face: Number of the person's face in each photo, counted from the left, beginning with 1; required if a photo
            shows several.
        pack: Face pack of the detector; None for the default pack.

    Returns:
        ``out``.

    Raises:
        CallError: A photo is missing, is not an image, shows no face or fewer than ``face``, or shows several and
            ``face`` is None.
        ValueError: The file is not a checkpoint, or does not fit the head model.
    """
    model, weights = open_model(checkpoint)
    aligner = FaceAligner(pack)
    size = model.config.image_size
    photos = [to_loaded_image(aligner.align_photo(path, face), size, path.name) for path in images]
    if steps:
        from flows.avatar.personalize import personalize_on_photos

        head = find_head(model.head_name, model.head_digest)
        personalize_on_photos(model, weights, head, photos, steps)
        model.eval()
    sources = compose_image(torch.stack([photo.pixels for photo in photos]))[0][None].to(model.rig.points.device)
    with torch.inference_mode():
        avatar = model.reconstruct(sources)
    header = AvatarHeader(
        head=model.head_name,
        head_digest=model.head_digest,
        subdivisions=model.config.subdivisions,
        sources=tuple(hashlib.sha256(path.read_bytes()).hexdigest() for path in images),
        checkpoint=cache_checkpoint(weights),
    )
    save_avatar(out, avatar, header)
    return out


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
