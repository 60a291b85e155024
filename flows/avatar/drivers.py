"""Drivers: the sources of the frames that drive an avatar (a video file, a camera or a pipe)."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple, Protocol

import cv2
import numpy as np

from flows.avatar import y4m
from flows.avatar.photos import Image
from infra.console import CallError
from pipelines.media.decoder import ProcessDecoder

_NAME_A_VIDEO = "name a video of a face"


class TimedFrame(NamedTuple):
    """One frame and its time."""

    time_s: float
    """Time of the frame since the stream began, seconds."""
    rgb: Image
    """(H, W, 3) RGB pixels of the frame."""


class Driver(Protocol):
    """A stream of frames."""

    name: str
    """Name of the source in error messages: a path, a camera's index, or ``-``."""
    fps: float
    """Frames per second."""

    def frames(self) -> Iterator[TimedFrame]:
        """Yield the frames; it may be called only once."""
        ...

    def close(self) -> None:
        """Release the source."""
        ...


def open_driver(spec: str, stdin: IO[bytes] | None = None) -> Driver:
    """Open a driver.

    Args:
        spec: ``-`` for raw frames on standard input (``flows.avatar.y4m``), a whole number for a camera's index, or a
            video file.
        stdin: Stream to read instead of standard input.

    Returns:
        The driver; the caller closes it.

    Raises:
        CallError: The file is missing, or the camera does not open.
        ValueError: Standard input is not a stream of raw frames.
    """
    if spec == "-":
        return PipeDriver(stdin or sys.stdin.buffer)
    if spec.isdecimal() and not Path(spec).exists():
        return CameraDriver(int(spec))
    return FileDriver(Path(spec))


class FileDriver:
    """Frames of a video file, decoded in a separate process."""

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        if not path.is_file():
            raise CallError(f"--driver {path}: no such file; name a video of a face, a camera's index, or - for a pipe")
        self._decoder = ProcessDecoder()
        self._path = path
        metadata = self._decoder.probe(path)
        if metadata["reason"]:
            self._decoder.close()
            raise CallError(f"--driver {path}: is not a video that can be read ({metadata['reason']}); {_NAME_A_VIDEO}")
        self.fps = float(metadata.get("fps") or 25.0)

    def frames(self) -> Iterator[TimedFrame]:
        """Yield every frame.

        Raises:
            CallError: No frame can be decoded.
        """
        empty = True
        for frame in self._decoder.frames(self._path):
            empty = False
            yield TimedFrame(frame.time_s, frame.rgb)
        if empty:
            raise CallError(f"--driver {self.name}: is not a video that can be read; {_NAME_A_VIDEO}")

    def close(self) -> None:
        """Stop the decoder's process."""
        self._decoder.close()


class PipeDriver:
    """Raw frames from a pipe, each as soon as it is complete."""

    name = "-"

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._header = y4m.read_stream_header(stream)
        self.fps = self._header.fps

    def frames(self) -> Iterator[TimedFrame]:
        """Yield the frames; their times are computed from the stream's frame rate."""
        for index, rgb in enumerate(y4m.read_frames(self._stream, self._header)):
            yield TimedFrame(index / self.fps, rgb)

    def close(self) -> None:
        """Do nothing: the caller owns the pipe."""


class CameraDriver:
    """Newest frames of a camera.

    Frames that arrive while the previous frame is being processed are skipped, except the newest one; so the delay
    does not grow.
    """

    def __init__(self, index: int) -> None:
        self.name = str(index)
        self._capture = cv2.VideoCapture(index)
        if not self._capture.isOpened():
            raise CallError(f"--driver {index}: no camera of this index opens; name another, or a video file")
        self.fps = float(self._capture.get(cv2.CAP_PROP_FPS)) or 30.0
        self._newest: TimedFrame | None = None
        self._changed = threading.Condition()
        self._ended = False
        self._thread = threading.Thread(target=self._read, name="camera", daemon=True)
        self._thread.start()

    def _read(self) -> None:
        began = time.monotonic()
        while not self._ended:
            read, bgr = self._capture.read()
            with self._changed:
                self._ended = self._ended or not read
                if read:
                    self._newest = TimedFrame(time.monotonic() - began, np.ascontiguousarray(bgr[:, :, ::-1]))
                self._changed.notify()

    def frames(self) -> Iterator[TimedFrame]:
        """Yield the newest frame each time, until ``end`` or ``close`` is called or the camera is disconnected."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._newest is not None or self._ended)
                frame, self._newest = self._newest, None
            if frame is None or self._ended:
                return
            yield frame

    def end(self) -> None:
        """Make ``frames`` end."""
        with self._changed:
            self._ended = True
            self._changed.notify()

    def close(self) -> None:
        """Stop reading and release the camera."""
        self.end()
        self._thread.join(timeout=5)
        self._capture.release()
