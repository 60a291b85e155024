"""Command ``ffavatar animate``: drive an avatar by a face in a video, from a camera or from a pipe, frame by frame."""

from __future__ import annotations

import contextlib
import signal
import statistics
import sys
import time
from collections.abc import Iterable, Iterator
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
from flows.avatar.driver_face import DriverFace
from flows.avatar.drivers import CameraDriver, Driver, open_driver
from flows.avatar.load_models import open_avatar
from flows.avatar.outputs import check_output
from flows.avatar.photos import FaceAligner, Image
from flows.avatar.reconstruct import to_model_input
from infra.console import CallError, err, say
from pipelines.faces.align import Matrix, invert_transform, warp_crop
from pipelines.media.video_writer import VIDEO_FORMATS, write_video

IMAGE_PX = 256
"""Pixels per side of the avatar's image, and of the driver's image beside it."""


@dataclass
class Latency:
    """Time from the arrival of each driver frame until the avatar's image was in host memory, seconds."""

    seconds: list[float] = field(default_factory=list)
    held_s: float = 0.0
    """Duration for which the driver did not show the driving person, and the avatar held still, seconds."""

    def __str__(self) -> str:
        ordered = sorted(self.seconds)
        p99 = ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))]
        held = f"; the driving face was away for {self.held_s:.1f} s" if self.held_s else ""
        return f"{1e3 * statistics.median(ordered):.0f} ms a frame (99th percentile {1e3 * p99:.0f} ms){held}"


@dataclass(frozen=True)
class DriverFrame:
    """One frame of a driver, with the driving parameters that were estimated from it."""

    image: Image
    """(IMAGE_PX, IMAGE_PX, 3) RGB image of the driver; frames are cropped alike until the face leaves the crop."""
    parameters: DrivingParameters
    """Driving parameters, each of shape (1, 1, ...), with the head pose in the crop ``image``."""
    began: float
    """Value of ``time.perf_counter`` at the arrival of the frame."""
    time_s: float
    """Time of the frame in the driver's stream, seconds."""
    is_held: bool
    """True if the frame does not show the driving person, so that the parameters are those of the frame before."""


def animate_command(
    avatar: Path, driver: str, face: int | None, checkpoint: Path | None, pack: str | None, smooth: bool, out: str
) -> None:
    """Run ``ffavatar animate``: call ``animate_video``, which describes the arguments, and print the latency."""
    smoothing = OneEuro.Config() if smooth else None
    latency = Latency()
    n = animate_video(
        avatar, driver, out, checkpoint=checkpoint, pack=pack, smoothing=smoothing, latency=latency, face=face
    )
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
    face: int | None = None,
) -> int:
    """Drive an avatar by a stream of frames, one at a time, and write driver and avatar side by side.

    A frame without a face repeats the parameters of the previous frame; the avatar is at rest until the first face.
    Ctrl-C ends the video of a camera; the file that was written up to then is complete.

    Args:
        avatar: The avatar's file.
        driver: A video file, a camera's index, or ``-`` for raw frames on standard input.
        out: An mp4, webm or gif file, as its ending says, or ``-`` for raw frames on standard output; each frame is
            written as soon as it is rendered.
        checkpoint: Checkpoint of the model; by default the one that made the avatar.
        pack: Face pack of the detector; None for the default pack.
        smoothing: Settings of the filter that smooths the driving parameters; None for no smoothing.
        latency: Object to which the latency of each frame is appended; None to measure nothing.
        face: Number of the driving face, as in ``track_driver``.

    Returns:
        The number of frames that were written, at the driver's mean rate.

    Raises:
        CallError: ``out`` has another ending, is an input or cannot be written; the driver is missing, is no video, or
            shows no face in any frame; or the avatar does not belong to the checkpoint, or its checkpoint is not here.
        ValueError: The avatar's file is not valid.
    """
    inputs = [avatar, Path(driver), *([checkpoint] if checkpoint else [])]
    if str(out) != "-":
        check_output("-o", Path(out), inputs, tuple(VIDEO_FORMATS))
    animator = open_animator(avatar, checkpoint, smoothing)
    source = open_driver(str(driver))
    latency = latency or Latency()
    try:
        frames = _side_by_side(animator, track_driver(animator, FaceAligner(pack), source, face), latency)
        with _ctrl_c_ends(source):
            if str(out) == "-":
                return _write_raw((image for _, image in frames), source.fps)
            return write_video(out, at_constant_rate(frames, source.fps), source.fps)
    finally:
        source.close()


def open_animator(avatar: Path, checkpoint: Path | None = None, smoothing: OneEuro.Config | None = None) -> Animator:
    """Open an avatar, and return an animator that renders it in images of ``IMAGE_PX`` pixels per side.

    Args:
        avatar: The avatar's file.
        checkpoint: Checkpoint of the model; by default the one that made the avatar.
        smoothing: Settings of the filter that smooths the driving parameters; None for no smoothing.

    Returns:
        The animator, with the backend for the model's device (``choose_backend``).

    Raises:
        CallError: The checkpoint is not in the cache, or the avatar was made with another head model or subdivision.
        ValueError: The file is not an avatar.
    """
    canonical, _, model = open_avatar(avatar, checkpoint)
    backend = choose_backend(model.rig.points.device)
    return Animator(model, canonical, size=IMAGE_PX, smoothing=smoothing, backend=backend)


def choose_backend(device: torch.device) -> BackendFactory:
    """Choose CUDA graphs on a CUDA device, otherwise the plain backend, with the reason as ``fallback_reason``."""
    if device.type == "cuda":
        return CudaGraphBackend
    return partial(PlainBackend, fallback_reason=f"the model is on {device}: CUDA graphs need a CUDA device")


def track_driver(
    animator: Animator, aligner: FaceAligner, source: Driver, face: int | None = None
) -> Iterator[DriverFrame]:
    """Yield each frame of a driver with its driving parameters, as the frames arrive.

    One person drives, also after cuts; frames that show only others hold the avatar still.

    Args:
        animator: Animator that estimates the parameters.
        aligner: Aligner that detects and aligns the face.
        source: The driver.
        face: Number of the driving face in the first frame with a face, from the left; None for the largest.

    Yields:
        One result per frame. A frame without a face repeats the parameters of the previous frame.

    Raises:
        CallError: No frame showed a face; raised after the last frame.
    """
    person = DriverFace(aligner, IMAGE_PX, face)
    parameters = animator.neutral
    for frame in source.frames():
        began = time.perf_counter()
        detected = person.follow(frame.rgb)
        if detected is not None and person.framing is not None:
            aligned = aligner.align(frame.rgb, detected)
            similarity = _compose(person.framing, invert_transform(aligned.transform))
            framing = Framing(similarity, aligned.crop.shape[0])
            crop = to_model_input(aligned, animator.image_size)
            parameters = animator.estimate_parameters(crop, framing, frame.time_s)
        transform = _centre_square(frame.rgb) if person.framing is None else person.framing
        image = warp_crop(frame.rgb, transform, IMAGE_PX)
        yield DriverFrame(image, parameters, began, frame.time_s, detected is None)
    if person.framing is None:
        raise CallError(f"--driver {source.name}: shows no face; name a video that shows a complete face")


def _side_by_side(animator: Animator, frames: Iterator[DriverFrame], latency: Latency) -> Iterator[tuple[float, Image]]:
    """Yield the time of each frame, seconds, and its image: driver and avatar side by side."""
    before: DriverFrame | None = None
    for frame in frames:
        image = animator.render(frame.parameters)[0]
        latency.seconds.append(time.perf_counter() - frame.began)
        latency.held_s += frame.time_s - before.time_s if before is not None and before.is_held else 0.0
        before = frame
        yield frame.time_s, np.concatenate([frame.image, image], 1)


def at_constant_rate(frames: Iterable[tuple[float, Image]], fps: float) -> Iterator[Image]:
    """Yield images at a constant rate from frames at any times, each no more than half an interval early or late.

    Args:
        frames: Times, seconds, ascending from about 0, and images.
        fps: Images per second.

    Yields:
        The image of the newest frame, once per interval; of several frames in one interval the last.
    """
    shown: Image | None = None
    n = 0
    for time_s, image in frames:
        index = round(time_s * fps)
        if shown is not None:
            for _ in range(n, index):
                yield shown
        n, shown = max(n, index), image
    if shown is not None:
        yield shown


def _write_raw(frames: Iterator[Image], fps: float) -> int:
    stream, n = sys.stdout.buffer, 0
    for n, image in enumerate(frames, 1):
        if n == 1:
            y4m.write_stream_header(stream, image.shape[1], image.shape[0], fps)
        y4m.write_frame(stream, image)
    return n


@contextlib.contextmanager
def _ctrl_c_ends(source: Driver) -> Iterator[None]:
    """Make Ctrl-C end the frames of a camera instead of the command, so that the video file is completed."""
    if not isinstance(source, CameraDriver):
        yield
        return
    previous = signal.signal(signal.SIGINT, lambda *_: source.end())
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)


def _centre_square(image: Image) -> Matrix:
    """Return the (2, 3) transform from a frame's pixels to an image of its largest central square."""
    height, width = image.shape[:2]
    scale = IMAGE_PX / min(height, width)
    shift = (IMAGE_PX - 1) / 2 - scale * (np.array([width, height]) - 1) / 2
    return np.column_stack([np.eye(2) * scale, shift])


def _compose(outer: Matrix, inner: Matrix) -> Matrix:
    """Return the (2, 3) transform that applies ``inner`` first, then ``outer``."""
    return np.column_stack([outer[:, :2] @ inner[:, :2], outer[:, :2] @ inner[:, 2] + outer[:, 2]])
