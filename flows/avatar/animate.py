"""``ffavatar animate``: a face in a video, before a camera or from a pipe drives an avatar, frame by frame."""

from __future__ import annotations

import contextlib
import signal
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import torch

from ffavatar_model.animation.animator import Animator, Framing
from ffavatar_model.animation.backends import BackendFactory, PlainBackend
from ffavatar_model.animation.graph_backend import CudaGraphBackend
from ffavatar_model.animation.smoothing import OneEuro
from ffavatar_model.networks.estimator import DrivingParameters
from flows.avatar import y4m
from flows.avatar.drivers import CameraDriver, Driver, open_driver
from flows.avatar.load_models import open_avatar
from flows.avatar.photos import FaceAligner, Image, follow_face
from flows.avatar.reconstruct import to_model_input
from infra.console import CallError, err, say
from pipelines.faces.align import Matrix, crop_transform, invert_transform, warp_crop
from pipelines.faces.analysis import Detection
from pipelines.media.video_writer import write_video

IMAGE_PX = 256
"""Side of the avatar's image, and of the driver's beside it."""


@dataclass
class Latency:
    """Seconds from the arrival of each frame until the avatar's image was on the host."""

    seconds: list[float] = field(default_factory=list)

    def __str__(self) -> str:
        ordered = sorted(self.seconds)
        p99 = ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))]
        return f"{1e3 * statistics.median(ordered):.0f} ms a frame (99th percentile {1e3 * p99:.0f} ms)"


@dataclass(frozen=True)
class DriverFrame:
    """One frame of a driver, with the parameters that it gives."""

    image: Image
    """(IMAGE_PX, IMAGE_PX, 3) the driver, cropped as its first face was."""
    parameters: DrivingParameters
    """(1, 1, ...), with the pose of the head in that crop."""
    began: float
    """``time.perf_counter`` at the arrival of the frame."""
    time_s: float
    """Time of the frame, seconds."""


def animate_command(
    avatar: Path, driver: str, checkpoint: Path | None, pack: str | None, smooth: bool, out: str
) -> None:
    """Run ``ffavatar animate``: arguments as for ``animate_video``; print the latency of the frames."""
    smoothing = OneEuro.Config() if smooth else None
    latency = Latency()
    n = animate_video(avatar, driver, out, checkpoint=checkpoint, pack=pack, smoothing=smoothing, latency=latency)
    if out == "-":
        err.print(f"{n} frames; {latency}", markup=False)
    else:
        say("video {out}: {n} frames, driver | avatar; {latency}", out=out, n=n, latency=latency)


def animate_video(
    avatar: Path,
    driver: str | Path,
    out: str | Path,
    *,
    checkpoint: Path | None = None,
    pack: str | None = None,
    smoothing: OneEuro.Config | None = None,
    latency: Latency | None = None,
) -> int:
    """Drive an avatar by a stream of frames, one at a time, and write driver and avatar side by side.

    A frame in which no face is found repeats the parameters of the one before; until the first face the avatar is at
    rest. Ctrl-C ends a camera's video, which remains complete.

    Args:
        avatar: The avatar's file.
        driver: A video file, a camera's index, or ``-`` for raw frames on standard input.
        out: An mp4 file, or ``-`` for raw frames on standard output, each written as soon as it is rendered.
        checkpoint: Checkpoint of the model; by default the one that made the avatar.
        pack: Face pack of the detector; the default pack where None.
        smoothing: Filter of the driving parameters; none by default.
        latency: Receives the seconds of each frame.

    Returns:
        The number of frames.

    Raises:
        CallError: The driver is missing, is no video, or shows no face in any frame.
        ValueError: The avatar is not valid, or was made with another head or model than the checkpoint's.
    """
    animator = open_animator(avatar, checkpoint, smoothing)
    source = open_driver(str(driver))
    latency = latency or Latency()
    try:
        frames = _side_by_side(animator, track_driver(animator, FaceAligner(pack), source), latency)
        with _ctrl_c_ends(source):
            if str(out) == "-":
                return _write_raw(frames, source.fps)
            return write_video(out, frames, source.fps)
    finally:
        source.close()


def open_animator(avatar: Path, checkpoint: Path | None = None, smoothing: OneEuro.Config | None = None) -> Animator:
    """Open an avatar with the animator that renders it into images of ``IMAGE_PX``.

    Args:
        avatar: The avatar's file.
        checkpoint: Checkpoint of the model; by default the one that made the avatar.
        smoothing: Filter of the driving parameters; none by default.

    Returns:
        The animator, with the backend for the model's device (``choose_backend``).

    Raises:
        CallError: See ``flows.avatar.load_models.open_avatar``.
        ValueError: The file is not an avatar.
    """
    canonical, _, model = open_avatar(avatar, checkpoint)
    backend = choose_backend(model.rig.points.device)
    return Animator(model, canonical, size=IMAGE_PX, smoothing=smoothing, backend=backend)


def choose_backend(device: torch.device) -> BackendFactory:
    """Choose CUDA graphs on a CUDA device, otherwise the plain backend, whose ``fallback_reason`` says why."""
    if device.type == "cuda":
        return CudaGraphBackend
    return partial(PlainBackend, fallback_reason=f"the model is on {device}: CUDA graphs need a CUDA device")


def track_driver(animator: Animator, aligner: FaceAligner, source: Driver) -> Iterator[DriverFrame]:
    """Yield each frame of a driver with its driving parameters, as the frames arrive.

    Args:
        animator: Estimates the parameters.
        aligner: Detects and aligns the face.
        source: The driver's frames.

    Yields:
        One result a frame. A frame without a face repeats the parameters of the one before.

    Raises:
        CallError: No frame showed a face; raised at the end.
    """
    face: Detection | None = None
    frame_to_image: Matrix | None = None
    parameters = animator.neutral
    for frame in source.frames():
        began = time.perf_counter()
        detected = follow_face(aligner.detect_faces(frame.rgb), face)
        if detected is not None:
            face = detected
            frame_to_image = crop_transform(face.landmarks5, IMAGE_PX) if frame_to_image is None else frame_to_image
            aligned = aligner.align(frame.rgb, face)
            similarity = _compose(frame_to_image, invert_transform(aligned.transform))
            framing = Framing(similarity, aligned.crop.shape[0])
            crop = to_model_input(aligned, animator.image_size)
            parameters = animator.estimate_parameters(crop, framing, frame.time_s)
        transform = _centre_square(frame.rgb) if frame_to_image is None else frame_to_image
        yield DriverFrame(warp_crop(frame.rgb, transform, IMAGE_PX), parameters, began, frame.time_s)
    if frame_to_image is None:
        raise CallError(f"--driver {source.name}: shows no face; name a video that shows a complete face")


def _side_by_side(animator: Animator, frames: Iterator[DriverFrame], latency: Latency) -> Iterator[Image]:
    for frame in frames:
        image = animator.render(frame.parameters)[0]
        latency.seconds.append(time.perf_counter() - frame.began)
        yield np.concatenate([frame.image, image], 1)


def _write_raw(frames: Iterator[Image], fps: float) -> int:
    stream, n = sys.stdout.buffer, 0
    for n, image in enumerate(frames, 1):
        if n == 1:
            y4m.write_stream_header(stream, image.shape[1], image.shape[0], fps)
        y4m.write_frame(stream, image)
    return n


@contextlib.contextmanager
def _ctrl_c_ends(source: Driver) -> Iterator[None]:
    """Let Ctrl-C end a camera's frames and not the command, so that the video is completed."""
    if not isinstance(source, CameraDriver):
        yield
        return
    previous = signal.signal(signal.SIGINT, lambda *_: source.end())
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)


def _centre_square(image: Image) -> Matrix:
    """Return the transform from a frame to an image of its largest central square."""
    height, width = image.shape[:2]
    scale = IMAGE_PX / min(height, width)
    shift = (IMAGE_PX - 1) / 2 - scale * (np.array([width, height]) - 1) / 2
    return np.column_stack([np.eye(2) * scale, shift])


def _compose(outer: Matrix, inner: Matrix) -> Matrix:
    """Return the transform (2, 3) that applies ``inner`` first, then ``outer``."""
    return np.column_stack([outer[:, :2] @ inner[:, :2], outer[:, :2] @ inner[:, 2] + outer[:, 2]])
