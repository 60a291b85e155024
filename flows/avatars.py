"""Use: photos to an avatar, an avatar driven by a video, an avatar for 3D Gaussian viewers. No Ray, no Prefect."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ffavatar_model.avatar import AvatarHeader, load_avatar, save_avatar
from ffavatar_model.camera import pose_to_camera, reframe_pose, virtual_intrinsics
from ffavatar_model.estimator import DrivingParameters
from ffavatar_model.gaussians import CanonicalAvatar
from ffavatar_model.head import load_head
from ffavatar_model.model import FFAvatar
from ffavatar_model.pictures import BACKGROUND, prepare
from ffavatar_model.ply import write_ply
from ffavatar_model.weights import load_model, model_file, read_header
from flows.console import CallError, say
from flows.heads import head_file, kept_head
from flows.portraits import Picture, Portrait, PortraitMaker, follow
from pipelines.faces.align import Matrix, crop_transform, invert, warp_crop
from pipelines.faces.analysis import Detection
from pipelines.faces.cache import cache_dir, sha256_of
from pipelines.media.decoder import DecodedFrame, ProcessDecoder
from pipelines.media.video_writer import write_video

SHOWN_PX = 256
"""Side of each half of the video."""


def reconstruct_command(images: list[Path], checkpoint: Path, face: int | None, pack: str | None, out: Path) -> None:
    """``ffavatar reconstruct``."""
    reconstruct_photos(images, checkpoint, out, face=face, pack=pack)
    say(
        "avatar {out} from {n} photos; drive it: ffavatar animate {out} --driver VIDEO -o OUT.mp4",
        out=out,
        n=len(images),
    )


def reconstruct_photos(
    images: list[Path], checkpoint: Path, out: Path, *, face: int | None = None, pack: str | None = None
) -> Path:
    """Find the face in each photo, and write the avatar of one forward pass over all of them to ``out``.

    The checkpoint is kept in the cache under its digest, where ``animate`` finds it again.

    Raises:
        CallError: a photo is missing, no picture, or shows no face or several (``face`` chooses).
        ValueError: the checkpoint is not one, or does not fit the head model.
    """
    model, weights = open_model(checkpoint)
    maker = PortraitMaker(pack)
    portraits = [maker.from_photo(path, face) for path in images]
    size = model.config.image_size
    sources = torch.stack([prepared(portrait, size) for portrait in portraits])[None].to(model.rig.points.device)
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


def animate_command(avatar: Path, driver: Path, checkpoint: Path | None, pack: str | None, out: Path) -> None:
    """``ffavatar animate``."""
    n = animate_video(avatar, driver, out, checkpoint=checkpoint, pack=pack)
    say("video {out}: {n} frames, driver | avatar", out=out, n=n)


def animate_video(
    avatar: Path, driver: Path, out: Path, *, checkpoint: Path | None = None, pack: str | None = None
) -> int:
    """Drive an avatar by the face of a video, frame by frame, into an mp4 of driver | avatar; returns its frames.

    A frame in which no face is found repeats the parameters of the one before.

    Raises:
        CallError: the driver is missing, is no video, or shows no face.
        ValueError: the avatar is not one, or was made with another head or model than the checkpoint's.
    """
    canonical, header = load_avatar(avatar, device())
    model, _ = open_model(checkpoint or recall(header, avatar))
    if header.head_digest != model.head_digest or header.subdivisions != model.config.subdivisions:
        raise CallError(
            f"{avatar}: bound to head model {header.head}, the checkpoint to {model.head_name}; pass its own"
        )
    if not driver.is_file():
        raise CallError(f"--driver {driver}: no such file; name a video of a face")
    maker = PortraitMaker(pack)
    decoder = ProcessDecoder()
    try:
        fps = float(decoder.probe(driver).get("fps") or 25.0)
        first = _first_face(maker, decoder, driver)
        return write_video(out, _driven(canonical, model, maker, decoder.frames(driver), *first), fps)
    finally:
        decoder.close()


def _first_face(maker: PortraitMaker, decoder: ProcessDecoder, driver: Path) -> tuple[Picture, Detection]:
    """The first frame of a video that shows a face, and that face."""
    n = 0
    for frame in decoder.frames(driver):
        n += 1
        face = follow(maker.find(frame.rgb), None)
        if face is not None:
            return frame.rgb, face
    what = "shows no face" if n else "is not a video that can be read"
    raise CallError(f"--driver {driver}: {what}; name a video in which a face is seen whole")


def _driven(
    avatar: CanonicalAvatar,
    model: FFAvatar,
    maker: PortraitMaker,
    frames: Iterator[DecodedFrame],
    first: Picture,
    face: Detection,
) -> Iterator[Picture]:
    """(H, 2W, 3) pictures: the driver in the frame of its first face, beside the avatar in the same place."""
    stage = crop_transform(face.landmarks5, SHOWN_PX)
    parameters = estimate(model, maker.take(first, face), stage)
    for frame in frames:
        found = follow(maker.find(frame.rgb), face)
        if found is not None:
            face = found
            parameters = estimate(model, maker.take(frame.rgb, face), stage)
        yield np.concatenate([warp_crop(frame.rgb, stage, SHOWN_PX), picture_of(avatar, model, parameters)], 1)


@torch.inference_mode()
def estimate(model: FFAvatar, portrait: Portrait, stage: Matrix) -> DrivingParameters:
    """What moves the head, (1, 1, ...), with the pose as it is seen in ``stage``, a frame → picture similarity."""
    driver = prepared(portrait, model.config.image_size).to(model.rig.points.device)
    parameters = model.estimate(driver[None, None])
    crop_px = portrait.crop.shape[0]
    to_stage = _compose(stage, invert(portrait.transform))
    pose = reframe_pose(parameters.pose, torch.from_numpy(to_stage).to(parameters.pose), crop_px, SHOWN_PX)
    return parameters._replace(pose=pose)


@torch.inference_mode()
def picture_of(avatar: CanonicalAvatar, model: FFAvatar, parameters: DrivingParameters) -> Picture:
    """The avatar under parameters (1, 1, ...), (SHOWN_PX, SHOWN_PX, 3)."""
    K = virtual_intrinsics(SHOWN_PX, parameters.pose)[None, None]
    camera = pose_to_camera(parameters.pose, K, SHOWN_PX)
    rendered = model.render(
        model.animate(avatar, parameters), camera, K, parameters.pose.new_tensor(BACKGROUND), SHOWN_PX
    )
    return (rendered.rgb[0, 0].clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy()


def export_command(avatar: Path, out: Path) -> None:
    """``ffavatar export``."""
    if out.suffix != ".ply":
        raise CallError(f"-o {out}: only .ply can be written; name it so")
    n = export_ply(avatar, out)
    say("{n} Gaussians in {out}; open it in a 3D Gaussian viewer", n=n, out=out)


def export_ply(avatar: Path, out: Path) -> int:
    """Write an avatar at rest as a ``.ply`` of 3D Gaussians (head axes, metres); returns how many."""
    canonical, header = load_avatar(avatar, device())
    model, _ = open_model(recall(header, avatar))
    with torch.inference_mode():
        rest = model.animate(canonical, neutral(model))
    a = rest.avatar
    write_ply(out, rest.means[0, 0], rest.rotations[0, 0], a.scales[0], a.opacities[0], a.colours[0])
    return rest.means.shape[2]


def neutral(model: FFAvatar) -> DrivingParameters:
    """(1, 1, ...) the head at rest, looking straight out."""
    start: Tensor = model.rig.start_pose
    expression, rotations = start.new_zeros(1, 1, model.estimator.n_expression), start.new_zeros(1, 1, 5, 3)
    return DrivingParameters(expression, rotations, start[None, None])


def prepared(portrait: Portrait, size: int) -> Tensor:
    """(3, size, size) a portrait as the model takes it."""
    side = portrait.crop.shape[0]
    # pixel centres are at whole numbers in the face stack and at +0.5 in the model
    landmarks = (torch.from_numpy(portrait.mesh[:, :2]).float() + 0.5) / side
    rgb, matte = (torch.from_numpy(np.ascontiguousarray(p)) for p in (portrait.crop, portrait.matte))
    return prepare(rgb.permute(2, 0, 1), matte[None], landmarks, size)[0]


def open_model(checkpoint: Path) -> tuple[FFAvatar, Path]:
    """A checkpoint's model with the head that it was trained on (the open head, or one in the cache), and its file."""
    header, weights = read_header(checkpoint), model_file(checkpoint)
    named = kept_head(str(header.get("head")), str(header.get("head_digest")))
    return load_model(checkpoint, load_head(named if named.is_file() else head_file(None)), device()), weights


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


def _compose(outer: Matrix, inner: Matrix) -> Matrix:
    """(2, 3) transform that applies ``inner`` first."""
    return np.column_stack([outer[:, :2] @ inner[:, :2], outer[:, :2] @ inner[:, 2] + outer[:, 2]])
