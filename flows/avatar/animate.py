"""``ffavatar animate``: an avatar driven by a face in a video, before a camera or from a pipe, frame by frame."""

from __future__ import annotations

import contextlib
import signal
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ffavatar_model.animation.animator import Animator, Framing, in_real_time
from ffavatar_model.animation.smoothing import OneEuro
from ffavatar_model.networks.estimator import DrivingParameters
from flows.avatar import y4m
from flows.avatar.drivers import CameraDriver, Driver, open_driver
from flows.avatar.photos import FaceAligner, Picture, follow
from flows.avatar.reconstruct import open_avatar, prepared
from infra.console import CallError, err, say
from pipelines.faces.align import Matrix, crop_transform, invert, warp_crop
from pipelines.faces.analysis import Detection
from pipelines.media.video_writer import write_video

SHOWN_PX = 256
"""Side of each half of the video."""


@dataclass
class Latency:
    """Seconds from having a frame to having the avatar's picture of it."""

    seconds: list[float] = field(default_factory=list)

    def __str__(self) -> str:
        ordered = sorted(self.seconds)
        last = ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))]
        return f"{1e3 * statistics.median(ordered):.0f} ms a frame (99th percentile {1e3 * last:.0f} ms)"


@dataclass(frozen=True)
class DriverFrame:
    """What one frame of a driver says."""

    shown: Picture
    """(SHOWN_PX, SHOWN_PX, 3) the driver, in the frame of its first face."""
    parameters: DrivingParameters
    """(1, 1, ...), the pose as it is seen there."""
    began: float
    """``time.perf_counter`` when the frame had arrived."""
    time_s: float


def animate_command(
    avatar: Path, driver: str, checkpoint: Path | None, pack: str | None, smooth: bool, out: str
) -> None:
    """``ffavatar animate``."""
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
    """Drive an avatar by a stream of pictures, one frame at a time, into driver | avatar; returns how many frames.

    ``driver`` is a video file, a camera's index or ``-`` (raw frames on standard input); ``out`` an mp4, or ``-`` for
    raw frames on standard output, each written as soon as it is made. A frame in which no face is found repeats the
    parameters of the one before; until the first face the avatar is at rest. Ctrl-C ends a camera's video, whole.

    Raises:
        CallError: the driver is missing, is no video, or shows no face in any frame.
        ValueError: the avatar is not one, or was made with another head or model than the checkpoint's.
    """
    animator = open_animator(avatar, checkpoint, smoothing)
    source = open_driver(str(driver))
    latency = latency or Latency()
    try:
        maker = FaceAligner(pack)
        pictures = _side_by_side(animator, watch(animator, maker, source), latency)
        with _ended_by_ctrl_c(source):
            if str(out) == "-":
                return _write_raw(pictures, source.fps)
            return write_video(out, pictures, source.fps)
    finally:
        source.close()


def open_animator(avatar: Path, checkpoint: Path | None = None, smoothing: OneEuro.Config | None = None) -> Animator:
    """What drives an avatar into pictures of ``SHOWN_PX``, by CUDA graphs where there is a CUDA device; see
    ``flows.avatar.reconstruct.open_avatar`` for what it raises."""
    canonical, _, model = open_avatar(avatar, checkpoint)
    animator = Animator(model, canonical, size=SHOWN_PX, smoothing=smoothing)
    return in_real_time(animator, model, canonical) if animator.device.type == "cuda" else animator


def watch(animator: Animator, maker: FaceAligner, source: Driver) -> Iterator[DriverFrame]:
    """What each frame of a driver says, in time. Raises ``CallError`` at the end where no frame showed a face."""
    face: Detection | None = None
    stage: Matrix | None = None
    parameters = animator.rest
    for frame in source.frames():
        began = time.perf_counter()
        found = follow(maker.find(frame.rgb), face)
        if found is not None:
            face = found
            stage = crop_transform(face.landmarks5, SHOWN_PX) if stage is None else stage
            portrait = maker.take(frame.rgb, face)
            framing = Framing(_compose(stage, invert(portrait.transform)), portrait.crop.shape[0])
            parameters = animator.parameters(prepared(portrait, animator.image_size), framing, frame.time_s)
        shown = warp_crop(frame.rgb, _middle(frame.rgb) if stage is None else stage, SHOWN_PX)
        yield DriverFrame(shown, parameters, began, frame.time_s)
    if stage is None:
        raise CallError(f"--driver {source.name}: shows no face; name a video in which a face is seen whole")


def _side_by_side(animator: Animator, driven: Iterator[DriverFrame], latency: Latency) -> Iterator[Picture]:
    for each in driven:
        avatar = animator.picture(each.parameters)
        latency.seconds.append(time.perf_counter() - each.began)
        yield np.concatenate([each.shown, avatar], 1)


def _write_raw(pictures: Iterator[Picture], fps: float) -> int:
    stream, n = sys.stdout.buffer, 0
    for n, picture in enumerate(pictures, 1):
        if n == 1:
            y4m.write_header(stream, picture.shape[1], picture.shape[0], fps)
        y4m.write_frame(stream, picture)
    return n


@contextlib.contextmanager
def _ended_by_ctrl_c(source: Driver) -> Iterator[None]:
    """Ctrl-C ends a camera's frames in place of the command, so that what was made is kept."""
    if not isinstance(source, CameraDriver):
        yield
        return
    before = signal.signal(signal.SIGINT, lambda *_: source.end())
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _middle(picture: Picture) -> Matrix:
    """The largest square in the middle of a frame."""
    height, width = picture.shape[:2]
    scale = SHOWN_PX / min(height, width)
    shift = (SHOWN_PX - 1) / 2 - scale * (np.array([width, height]) - 1) / 2
    return np.column_stack([np.eye(2) * scale, shift])


def _compose(outer: Matrix, inner: Matrix) -> Matrix:
    """(2, 3) transform that applies ``inner`` first."""
    return np.column_stack([outer[:, :2] @ inner[:, :2], outer[:, :2] @ inner[:, 2] + outer[:, 2]])
