"""Rendering for the NeRSemble benchmark: participants' avatars, their driving parameters, and each camera's images."""

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
from flows.avatar.reconstruct import to_model_input
from infra.console import CallError
from nersemble.benchmark import MONO, MONO_TRAIN, MONO_TRAIN_SEQUENCES, NVS, NVS_HELD_OUT, BenchmarkTask
from nersemble.camera_params import read_camera_params
from nersemble.flame_tracking import read_tracking
from nersemble.layout import alpha_path, calibration_path, list_serials, tracking_path, video_path
from pipelines.conversion.head_finder import LANDMARK_INDEX, HeadFinder
from pipelines.conversion.nersemble.camera_videos import CameraVideo, read_timesteps
from pipelines.conversion.triangulation import fit_similarity, triangulate
from pipelines.faces.align import warp_crop
from pipelines.media.cameras import Array, Camera
from pipelines.media.decoder import ProcessDecoder

Pixels = NDArray[np.uint8]
"""(H, W, 3) RGB image, or (H, W) matte."""

N_SOURCES = 4
"""Most source images of a participant."""
N_VIEWS = 6
"""Most cameras of the nvs task in which landmarks are detected: those nearest to the front."""
CHUNK = 8
"""Number of frames that are posed and rendered in one call."""
EMPTY = 5
"""Alpha (0 to 255) below which a pixel shows only the background."""
SOFT_PX = 4.0
"""Reprojection error (pixels) at which ``triangulate`` gives a landmark half the weight."""


@dataclass(frozen=True)
class DriverFrames:
    """Driving parameters of T frames of a recording."""

    expression: Tensor
    """(T, E) expression coefficients."""
    rotations: Tensor
    """(T, 5, 3) rotations of the joints, axis-angle."""
    head_to_world: Array
    """(T, 3, 4) transforms: the rotation times a scale, and the translation."""


@dataclass(frozen=True)
class Participant:
    """One participant of a task, with the avatar that was reconstructed from the participant's images."""

    task: BenchmarkTask
    """The task."""
    folder: Path
    """Folder of the participant in the task's data."""
    avatar: CanonicalAvatar
    """The participant's avatar."""
    cameras: Mapping[str, Camera]
    """Cameras by serial number, for images of the task's size."""
    background: Array
    """(3,) RGB colour behind the person in the published images, 0 to 1."""


def read_person_cameras(task: BenchmarkTask, folder: Path) -> dict[str, Camera]:
    """Read the calibrated cameras of a participant's folder, by serial number.

    Args:
        task: The task; the intrinsics are for images of its size.
        folder: The participant's folder.

    Raises:
        NersembleError: The calibration is missing or not valid.
    """
    calibration = read_camera_params(calibration_path(folder), None)
    return {
        serial: Camera(calibration.intrinsics(serial, task.width, task.height), pose, task.width, task.height)
        for serial, pose in calibration.world_to_camera.items()
    }


def open_participant(
    model: FFAvatar, aligner: FaceAligner, task: BenchmarkTask, folder: Path, sequence: str
) -> Participant:
    """Reconstruct a participant's avatar from images that the task publishes.

    In the mono task, the source images are frames of the front camera, one from each of four training sequences. In
    the nvs task, they are the first frames of four cameras near the front.

    Args:
        model: Model that reconstructs the avatar.
        aligner: Aligner that detects and aligns faces.
        task: The task.
        folder: The participant's folder.
        sequence: Recording that the source images of the nvs task are from; ignored in the mono task.

    Raises:
        CallError: No source image shows a face.
        NersembleError: The calibration is missing or not valid.
    """
    cameras = read_person_cameras(task, folder)
    if task is MONO:
        sequences = [s for s in MONO_TRAIN_SEQUENCES if video_path(folder, s, MONO_TRAIN).is_file()]
        candidates = [(s, MONO_TRAIN, 0.5) for s in sequences[:: max(1, len(sequences) // N_SOURCES)]]
    else:
        candidates = [(sequence, serial, 0.0) for serial in list_front_cameras(folder, sequence, cameras)]
    sources: list[Tensor] = []
    background = np.ones(3)
    for name, serial, position in candidates:
        image, alpha = _read_frame_and_matte(folder, name, serial, position)
        if alpha is not None and (alpha < EMPTY).any():
            background = np.median(image[alpha < EMPTY], axis=0) / 255
        face = _align_largest_face(aligner, image, alpha)
        if face is not None:
            sources.append(to_model_input(face, model.config.image_size))
        if len(sources) == N_SOURCES:
            break
    if not sources:
        raise CallError(f"{folder}: no image with a face to make the avatar from; fetch its training videos")
    with torch.inference_mode():
        avatar = model.reconstruct(torch.stack(sources)[None].to(model.rig.points.device))
    return Participant(task, folder, avatar, cameras, background)


def read_tracked_frames(model: FFAvatar, folder: Path, sequence: str, origin: Array) -> DriverFrames:
    """Read the driving parameters that the mono task publishes.

    Args:
        model: The model; its estimator's number of expression coefficients is used.
        folder: The participant's folder.
        sequence: Name of the recording.
        origin: (3,) origin of the model's head in the frame of the tracked head.

    Raises:
        NersembleError: The tracking file is missing or not valid.
    """
    tracking = read_tracking(tracking_path(folder, sequence))
    poses = tracking.head_to_world()
    poses[..., 3] += poses[..., :3] @ origin
    return DriverFrames(
        torch.from_numpy(np.asarray(tracking.expression[:, : model.estimator.n_expression], np.float32)),
        torch.from_numpy(tracking.joint_rotations()),
        poses,
    )


def estimate_frames(
    model: FFAvatar, aligner: FaceAligner, finder: HeadFinder, person: Participant, sequence: str, n_frames: int
) -> DriverFrames:
    """Estimate driving parameters from the views of the nvs task.

    The estimator computes the expression from the frontmost image that shows a face. The head's pose comes from several
    cameras: the avatar's landmarks, posed with this expression, are fitted to the triangulated landmarks. A timestep in
    which no head is found repeats the parameters of the previous timestep.

    Args:
        model: Model whose estimator is used.
        aligner: Aligner that detects and aligns faces.
        finder: Detector of landmarks in uncropped images.
        person: The participant.
        sequence: Name of the recording.
        n_frames: Number of frames of the recording.

    Raises:
        CallError: No timestep shows a head in two cameras.
    """
    names = list_front_cameras(person.folder, sequence, person.cameras)
    decoders = {name: ProcessDecoder() for name in names}
    frames = list(range(n_frames))
    size = (person.task.width, person.task.height)
    videos = {n: CameraVideo(video_path(person.folder, sequence, n), decoders[n], frames, size) for n in names}
    detected_rows = {int(p): i for i, p in enumerate(LANDMARK_INDEX)}
    rig_rows = [i for i, p in enumerate(model.rig.landmark_index.tolist()) if p in detected_rows]
    columns = [detected_rows[int(model.rig.landmark_index[i])] for i in rig_rows]
    estimates: list[tuple[Tensor, Tensor, Array] | None] = []
    try:
        for _, images, _ in read_timesteps(videos, frames):
            landmarks = {
                n: detected[0][LANDMARK_INDEX]
                for n, image in images.items()
                if (detected := finder.detect_landmarks(image)) is not None
            }
            aligned = (_align_largest_face(aligner, images[n], None) for n in names if n in landmarks)
            face = next((face for face in aligned if face is not None), None)
            if len(landmarks) < 2 or face is None:
                estimates.append(None)
                continue
            cameras = [person.cameras[n] for n in landmarks]
            points = triangulate(cameras, np.stack(list(landmarks.values())), soft_px=SOFT_PX).points
            with torch.inference_mode():
                source = to_model_input(face, model.config.image_size)[None, None].to(model.rig.points)
                parameters = model.estimate(source)
                means, _ = model.rig.pose(person.avatar, parameters)
                shape = model.rig.landmarks(means)[0, 0, rig_rows].double().cpu().numpy()
            fit = fit_similarity(shape, points[columns])
            transform = np.column_stack([fit.scale * fit.head_to_world[:, :3], fit.head_to_world[:, 3]])
            estimates.append((parameters.expression[0, 0].cpu(), parameters.rotations[0, 0].cpu(), transform))
    finally:
        for decoder in decoders.values():
            decoder.close()
    last = next((estimate for estimate in estimates if estimate is not None), None)
    if last is None:
        raise CallError(f"{person.folder}: {sequence} shows no face in two cameras at once; fetch more of its videos")
    filled = []
    for estimate in estimates:
        last = estimate or last
        filled.append(last)
    expression, rotations, poses = zip(*filled, strict=True)
    return DriverFrames(torch.stack(expression), torch.stack(rotations), np.stack(poses))


def head_to_camera(camera: Camera, head_to_world: Array) -> Array:
    """Compute rigid head-to-camera poses from head-to-world transforms with a scale.

    A head enlarged s times gives the same image as the original head at 1/s of the distance. So the translation is
    divided by the scale, and the Gaussians keep their size.

    Args:
        camera: The camera, with its world-to-camera pose.
        head_to_world: (T, 3, 4) transforms: the rotation times a scale, and the translation.

    Returns:
        (T, 3, 4) rigid poses: the rotation, and the translation divided by the scale.
    """
    scale = np.cbrt(np.linalg.det(head_to_world[:, :, :3]))[:, None, None]
    turn = camera.world_to_camera[:, :3] @ head_to_world[..., :3]
    shift = head_to_world[..., 3] @ camera.world_to_camera[:, :3].T + camera.world_to_camera[:, 3]
    return np.concatenate([turn, shift[..., None]], axis=-1) / scale


def render_camera(model: FFAvatar, person: Participant, driven: DriverFrames, serial: str) -> Iterator[Pixels]:
    """Render the frames of a recording from one camera.

    Args:
        model: Model that animates and renders the avatar.
        person: The participant.
        driven: Driving parameters of the recording.
        serial: Serial number of the camera.

    Yields:
        (H, W, 3) RGB images of the task's size, frame by frame.
    """
    camera, task = person.cameras[serial], person.task
    side = max(task.width, task.height)
    device = model.rig.points.device
    poses = torch.from_numpy(head_to_camera(camera, driven.head_to_world)).float().to(device)
    K = torch.from_numpy(camera.K).float().to(device)
    background = torch.from_numpy(person.background).float().to(device)
    rest = iter(range(len(driven.expression)))
    while chunk := list(islice(rest, CHUNK)):
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


def list_front_cameras(folder: Path, sequence: str, cameras: Mapping[str, Camera]) -> list[str]:
    """List at most ``N_VIEWS`` cameras that have a video of a recording, the frontmost camera first.

    Args:
        folder: The participant's folder.
        sequence: Name of the recording.
        cameras: The calibrated cameras, by serial number.

    Returns:
        Serial numbers, ordered by the angle between the camera's viewing direction and that of the centre camera.
    """
    front = cameras[NVS_HELD_OUT[1]].world_to_camera[2, :3] if NVS_HELD_OUT[1] in cameras else None
    serials = [serial for serial in list_serials(folder, sequence) if serial in cameras]
    if front is None:
        return serials[:N_VIEWS]
    return sorted(serials, key=lambda serial: -float(cameras[serial].world_to_camera[2, :3] @ front))[:N_VIEWS]


def _read_frame_and_matte(folder: Path, sequence: str, serial: str, position: float) -> tuple[Pixels, Pixels | None]:
    """Read the frame at a position (0 to 1) of a video, and its (H, W) matte; None if the benchmark has no matte."""
    decoder, matte = ProcessDecoder(), alpha_path(folder, sequence, serial)

    def read_frame(path: Path) -> Pixels:
        n = decoder.probe(path).get("n_frames") or 1
        frames = list(decoder.frames(path, indices=[int(position * (n - 1))]))
        if not frames:
            raise CallError(f"{path}: does not decode; fetch it again")
        return frames[0].rgb

    try:
        image = read_frame(video_path(folder, sequence, serial))
        return image, read_frame(matte)[..., 0] if matte.is_file() else None
    finally:
        decoder.close()


def _align_largest_face(aligner: FaceAligner, image: Pixels, alpha: Pixels | None) -> AlignedFace | None:
    """Align the largest face of an image, with the benchmark's matte ``alpha`` if there is one; None without a face."""
    faces = aligner.detect_faces(image)
    if not faces:
        return None
    largest = max(faces, key=lambda f: float((f.box[2] - f.box[0]) * (f.box[3] - f.box[1])))
    face = aligner.align(image, largest)
    if alpha is None:
        # The background was replaced by white, which is also the model's background: a full matte changes nothing.
        matte = np.full(face.matte.shape, 255, np.uint8)
    else:
        matte = warp_crop(np.ascontiguousarray(alpha), face.transform, len(face.crop))
    return AlignedFace(face.crop, matte, face.mesh, face.transform)


def find_tasks(folder: Path) -> Sequence[BenchmarkTask]:
    """Return the tasks whose data is in a benchmark folder.

    Raises:
        CallError: The folder has the data of no task.
    """
    tasks = [task for task in (MONO, NVS) if (folder / task.name).is_dir()]
    if not tasks:
        raise CallError(
            f"{folder}: neither mono_flame_avatar nor nvs in it; fetch them with nersemble-benchmark-download"
        )
    return tasks
