"""Where the frames come from that drive an avatar: a video file, a camera, a pipe; one at a time."""

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
from flows.avatar.photos import Picture
from infra.console import CallError
from pipelines.media.decoder import ProcessDecoder


class Frame(NamedTuple):
    """One picture (H, W, 3) RGB and when it was taken, in seconds from the first."""

    time_s: float
    rgb: Picture


class Driver(Protocol):
    """A stream of frames."""

    name: str
    fps: float

    def frames(self) -> Iterator[Frame]:
        """The frames, once."""
        ...

    def close(self) -> None:
        """Let go of what is held."""
        ...


def open_driver(spec: str, stdin: IO[bytes] | None = None) -> Driver:
    """``-`` is raw frames on standard input (``flows.avatar.y4m``), a whole number a camera's index, the rest a video file.

    Raises ``CallError`` for a file that is missing or no video, and a camera that does not open.
    """
    if spec == "-":
        return PipeDriver(stdin or sys.stdin.buffer)
    if spec.isdecimal() and not Path(spec).exists():
        return CameraDriver(int(spec))
    return FileDriver(Path(spec))


class FileDriver:
    """Every frame of a video file, decoded in a process of its own."""

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        if not path.is_file():
            raise CallError(f"--driver {path}: no such file; name a video of a face, a camera's index, or - for a pipe")
        self._decoder = ProcessDecoder()
        self._path = path
        self.fps = float(self._decoder.probe(path).get("fps") or 25.0)

    def frames(self) -> Iterator[Frame]:
        """Raises ``CallError`` where not one frame decodes."""
        empty = True
        for frame in self._decoder.frames(self._path):
            empty = False
            yield Frame(frame.time_s, frame.rgb)
        if empty:
            raise CallError(f"--driver {self.name}: is not a video that can be read; name a video of a face")

    def close(self) -> None:
        """End the decoder's process."""
        self._decoder.close()


class PipeDriver:
    """Raw frames from a pipe, each as soon as it is whole."""

    name = "-"

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._header = y4m.read_header(stream)
        self.fps = self._header.fps

    def frames(self) -> Iterator[Frame]:
        """Times follow from the stream's rate."""
        for index, rgb in enumerate(y4m.read_frames(self._stream, self._header)):
            yield Frame(index / self.fps, rgb)

    def close(self) -> None:
        """The pipe belongs to whoever opened it."""


class CameraDriver:
    """The newest frame of a camera: what comes while a frame is being worked on is passed over, so lag never grows."""

    def __init__(self, index: int) -> None:
        self.name = str(index)
        self._capture = cv2.VideoCapture(index)
        if not self._capture.isOpened():
            raise CallError(f"--driver {index}: no camera of this index opens; name another, or a video file")
        self.fps = float(self._capture.get(cv2.CAP_PROP_FPS)) or 30.0
        self._newest: Frame | None = None
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
                    self._newest = Frame(time.monotonic() - began, np.ascontiguousarray(bgr[:, :, ::-1]))
                self._changed.notify()

    def frames(self) -> Iterator[Frame]:
        """Until ``close``, or until the camera goes."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._newest is not None or self._ended)
                frame, self._newest = self._newest, None
            if frame is None or self._ended:
                return
            yield frame

    def end(self) -> None:
        """No more frames."""
        with self._changed:
            self._ended = True
            self._changed.notify()

    def close(self) -> None:
        """Stop reading and give the camera back."""
        self.end()
        self._thread.join(timeout=5)
        self._capture.release()
