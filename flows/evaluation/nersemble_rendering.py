"""What drives an avatar through a recording of the NeRSemble benchmark, and the pictures of its cameras."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ffavatar_model.model import FFAvatar
from ffavatar_model.networks.estimator import DrivingParameters
from ffavatar_model.networks.gaussians import CanonicalAvatar
from flows.avatar.photos import AlignedFace, FaceAligner
from flows.avatar.reconstruct import prepared
from infra.console import CallError
from nersemble.benchmark import MONO, MONO_TRAIN, MONO_TRAIN_SEQUENCES, NVS, NVS_HELD_OUT, BenchmarkTask
from nersemble.camera_params import read_calibration
from nersemble.flame_tracking import read_tracking
from nersemble.layout import alpha_path, calibration_path, serials_of, tracking_path, video_path
from pipelines.conversion.head_finder import POINTS, HeadFinder
from pipelines.conversion.nersemble.lockstep import CameraVideo, Decoders, moments
from pipelines.conversion.triangulation import place, triangulate
from pipelines.faces.align import warp_crop
from pipelines.media.cameras import Array, Camera
from pipelines.media.decoder import ProcessDecoder

Picture = NDArray[np.uint8]

SOURCES = 4
"""Pictures of a person that the avatar is made from."""
VIEWS = 6
"""Cameras of the nvs task in which landmarks are looked for: those nearest the front."""
AT_ONCE = 8
"""Frames that are posed and rendered in one call."""
EMPTY = 5
"""Below this alpha, of 255, a pixel shows the background alone."""
SOFT_PX = 4.0
"""Landmarks that lie so far from where the others say count half; see ``triangulate``."""


@dataclass(frozen=True)
class DriverFrames:
    """T frames of a recording."""

    expression: Tensor
    """(T, E)."""
    rotations: Tensor
    """(T, 5, 3) axis-angle."""
    head_to_world: Array
    """(T, 3, 4): turn times scale, and shift."""


@dataclass(frozen=True)
class Participant:
    """A participant's folder of a task, as far as both tasks need it."""

    task: BenchmarkTask
    folder: Path
    avatar: CanonicalAvatar
    cameras: Mapping[str, Camera]
    """Of the task's pictures."""
    background: Array
    """(3,) behind the person in the pictures that are given out, 0 to 1."""


def person_cameras(task: BenchmarkTask, folder: Path) -> dict[str, Camera]:
    """The benchmark's calibrated cameras, K for pictures of the task's size. Raises ``NersembleError``."""
    calibration = read_calibration(calibration_path(folder), None)
    return {
        serial: Camera(calibration.intrinsics(serial, task.width, task.height), pose, task.width, task.height)
        for serial, pose in calibration.world_to_camera.items()
    }


def open_person(model: FFAvatar, maker: FaceAligner, task: BenchmarkTask, folder: Path, sequence: str) -> Participant:
    """A participant with an avatar made of pictures that the task gives out.

    Of the mono task these are the front camera's, one from each of four training sequences; of nvs the first moment
    of four cameras near the front. Raises ``CallError`` when none of them shows a face.
    """
    cameras = person_cameras(task, folder)
    if task is MONO:
        there = [s for s in MONO_TRAIN_SEQUENCES if video_path(folder, s, MONO_TRAIN).is_file()]
        wanted = [(s, MONO_TRAIN, 0.5) for s in there[:: max(1, len(there) // SOURCES)]]
    else:
        wanted = [(sequence, serial, 0.0) for serial in near_front(folder, sequence, cameras)]
    sources: list[Tensor] = []
    background = np.ones(3)
    for name, serial, share in wanted:
        picture, alpha = _picture(folder, name, serial, share)
        if alpha is not None and (alpha < EMPTY).any():
            background = np.median(picture[alpha < EMPTY], axis=0) / 255
        portrait = _portrait(maker, picture, alpha)
        if portrait is not None:
            sources.append(prepared(portrait, model.config.image_size))
        if len(sources) == SOURCES:
            break
    if not sources:
        raise CallError(f"{folder}: no picture with a face to make the avatar from; fetch its training videos")
    with torch.inference_mode():
        avatar = model.reconstruct(torch.stack(sources)[None].to(model.rig.points.device))
    return Participant(task, folder, avatar, cameras, background)


def driven_by_tracking(model: FFAvatar, folder: Path, sequence: str, origin: Array) -> DriverFrames:
    """The mono task's own parameters. ``origin`` (3,) is where the model's head has its origin in FLAME's frame.

    Raises ``NersembleError`` for a tracking file that is none.
    """
    tracking = read_tracking(tracking_path(folder, sequence))
    places = tracking.head_to_world()
    places[..., 3] += places[..., :3] @ origin
    return DriverFrames(
        torch.from_numpy(np.asarray(tracking.expression[:, : model.estimator.n_expression], np.float32)),
        torch.from_numpy(tracking.joint_rotations()),
        places,
    )


def driven_by_views(
    model: FFAvatar, maker: FaceAligner, finder: HeadFinder, person: Participant, sequence: str, n_frames: int
) -> DriverFrames:
    """The nvs task: expression from the estimator on the frontmost picture, the head's place from several.

    The avatar's own landmarks under that expression are placed on the triangulated ones. A moment in which no head is
    found repeats the one before. Raises ``CallError`` when none is found at all.
    """
    names = near_front(person.folder, sequence, person.cameras)
    decoders = {name: Decoders(ProcessDecoder("pyav"), ProcessDecoder("decord")) for name in names}
    frames = list(range(n_frames))
    size = (person.task.width, person.task.height)
    videos = {n: CameraVideo(video_path(person.folder, sequence, n), decoders[n], frames, size) for n in names}
    known = {int(p): i for i, p in enumerate(POINTS)}
    rows = [i for i, p in enumerate(model.rig.landmark_index.tolist()) if p in known]
    columns = [known[int(model.rig.landmark_index[i])] for i in rows]
    found: list[tuple[Tensor, Tensor, Array] | None] = []
    try:
        for _, pictures, _ in moments(videos, frames):
            seen = {n: s[0][POINTS] for n, p in pictures.items() if (s := finder.landmarks(p)) is not None}
            portrait = next((c for n in names if n in seen and (c := _portrait(maker, pictures[n], None))), None)
            if len(seen) < 2 or portrait is None:
                found.append(None)
                continue
            cameras = [person.cameras[n] for n in seen]
            points = triangulate(cameras, np.stack(list(seen.values())), soft_px=SOFT_PX).points
            with torch.inference_mode():
                source = prepared(portrait, model.config.image_size)[None, None].to(model.rig.points)
                parameters = model.estimate(source)
                means, _ = model.rig.pose(person.avatar, parameters)
                shape = model.rig.landmarks(means)[0, 0, rows].double().cpu().numpy()
            placed = place(shape, points[columns])
            transform = np.column_stack([placed.scale * placed.head_to_world[:, :3], placed.head_to_world[:, 3]])
            found.append((parameters.expression[0, 0].cpu(), parameters.rotations[0, 0].cpu(), transform))
    finally:
        for decoder in (d for pair in decoders.values() for d in pair):
            decoder.close()
    first = next((one for one in found if one is not None), None)
    if first is None:
        raise CallError(f"{person.folder}: {sequence} shows no face in two cameras at once; fetch more of its videos")
    whole, last = [], first
    for one in found:
        last = one or last
        whole.append(last)
    expression, rotations, places = zip(*whole, strict=True)
    return DriverFrames(torch.stack(expression), torch.stack(rotations), np.stack(places))


def head_to_camera(camera: Camera, head_to_world: Array) -> Array:
    """(T, 3, 4) rigid, of heads placed by ``head_to_world`` (T, 3, 4) with a scale inside.

    A head that is s times larger in the world looks as the head itself does from a camera s times nearer: the scale
    goes into the camera's shift, and the Gaussians keep their size.
    """
    scale = np.cbrt(np.linalg.det(head_to_world[:, :, :3]))[:, None, None]
    turn = camera.world_to_camera[:, :3] @ head_to_world[..., :3]
    shift = head_to_world[..., 3] @ camera.world_to_camera[:, :3].T + camera.world_to_camera[:, 3]
    return np.concatenate([turn, shift[..., None]], axis=-1) / scale


def pictures_of(model: FFAvatar, person: Participant, driven: DriverFrames, serial: str) -> Iterator[Picture]:
    """(height, width, 3) RGB pictures of a camera, frame by frame, of the task's size."""
    camera, task = person.cameras[serial], person.task
    side = max(task.width, task.height)
    device = model.rig.points.device
    poses = torch.from_numpy(head_to_camera(camera, driven.head_to_world)).float().to(device)
    K = torch.from_numpy(camera.K).float().to(device)
    background = torch.from_numpy(person.background).float().to(device)
    rest = iter(range(len(driven.expression)))
    while chunk := list(islice(rest, AT_ONCE)):
        n = len(chunk)
        parameters = DrivingParameters(
            driven.expression[chunk][None].to(device),
            driven.rotations[chunk][None].to(device),
            model.rig.start_pose.expand(1, n, -1),
        )
        with torch.inference_mode():
            posed = model.animate(person.avatar, parameters)
            rgb = model.render(posed, poses[chunk][None], K.expand(1, n, 3, 3), background, side).rgb[0]
        rgb = rgb[..., : task.height, : task.width].clamp(0, 1)
        yield from (rgb * 255 + 0.5).to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()


def near_front(folder: Path, sequence: str, cameras: Mapping[str, Camera]) -> list[str]:
    """At most ``VIEWS`` cameras with a video of the sequence, the one that looks most as the centre one does first."""
    front = cameras[NVS_HELD_OUT[1]].world_to_camera[2, :3] if NVS_HELD_OUT[1] in cameras else None
    there = [serial for serial in serials_of(folder, sequence) if serial in cameras]
    if front is None:
        return there[:VIEWS]
    return sorted(there, key=lambda serial: -float(cameras[serial].world_to_camera[2, :3] @ front))[:VIEWS]


def _picture(folder: Path, sequence: str, serial: str, share: float) -> tuple[Picture, Picture | None]:
    """A frame at a share of a video's length, and its matte (H, W) where the benchmark gives one."""
    decoder, matte = ProcessDecoder(), alpha_path(folder, sequence, serial)
    try:
        picture = _frame(decoder, video_path(folder, sequence, serial), share)
        return picture, _frame(decoder, matte, share)[..., 0] if matte.is_file() else None
    finally:
        decoder.close()


def _frame(decoder: ProcessDecoder, path: Path, share: float) -> Picture:
    n = decoder.probe(path).get("n_frames") or 1
    frames = list(decoder.frames(path, indices=[int(share * (n - 1))]))
    if not frames:
        raise CallError(f"{path}: does not decode; fetch it again")
    return frames[0].rgb


def _portrait(maker: FaceAligner, picture: Picture, alpha: Picture | None) -> AlignedFace | None:
    """The largest face; its matte is the benchmark's own where there is one."""
    faces = maker.find(picture)
    if not faces:
        return None
    face = max(faces, key=lambda f: float((f.box[2] - f.box[0]) * (f.box[3] - f.box[1])))
    portrait = maker.take(picture, face)
    if alpha is None:
        # The background is removed already: what is not its colour is the person, and the model's own colour is white.
        return AlignedFace(
            portrait.crop, np.full(portrait.matte.shape, 255, np.uint8), portrait.mesh, portrait.transform
        )
    matte = warp_crop(np.ascontiguousarray(alpha), portrait.transform, len(portrait.crop))
    return AlignedFace(portrait.crop, matte, portrait.mesh, portrait.transform)


def tasks_of(folder: Path) -> Sequence[BenchmarkTask]:
    """The tasks whose data a benchmark folder holds. Raises ``CallError`` when there is none."""
    found = [task for task in (MONO, NVS) if (folder / task.name).is_dir()]
    if not found:
        raise CallError(
            f"{folder}: neither mono_flame_avatar nor nvs in it; fetch them with nersemble-benchmark-download"
        )
    return found
