"""Frames of a video, decoded where a hang or a crash costs one process."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from pipelines.media.frame_memory import FrameMemory, open_frame_memory
from pipelines.media.shot_features import ShotFeatures
from pipelines.media.survey import SampledFrame, SurveyConfig


class DecodedFrame(NamedTuple):
    """One frame: its rank by presentation time, that time, and ``rgb`` (H, W, 3) uint8, upright."""

    frame_index: int
    time_s: float
    rgb: np.ndarray


@dataclass(frozen=True)
class DecodeSummary:
    """What became of one call of ``frames``, held against what the file's packets promise."""

    n_indexed: int = 0
    n_decoded: int = 0
    n_corrupt: int = 0
    n_discarded: int = 0
    error: str = ""
    """What the decoder said; empty when it said nothing."""

    def is_whole(self, promised: int | None = None) -> bool:
        """Whether every frame was given (``frames`` was asked for all), and as many as the container promises."""
        complete = self.n_decoded == self.n_indexed and not self.error and not self.n_corrupt
        return complete and promised in (None, self.n_indexed + self.n_discarded)


class DecodeTimeout(RuntimeError):
    """The decoder gave nothing within its time limit."""


class DecoderCrashed(RuntimeError):
    """The decoder's process died."""


class Decoder(Protocol):
    """Gives frames of a video file."""

    @property
    def summary(self) -> DecodeSummary:
        """Of the last call of ``frames`` that was read to its end."""
        ...

    def frames(
        self,
        path: str | Path,
        *,
        indices: Sequence[int] | None = None,
        step: int = 1,
        size: tuple[int, int] | None = None,
    ) -> Iterator[DecodedFrame]:
        """The frames ``indices`` (ascending), or every ``step``-th; stretched to ``size`` (width, height) if given."""
        ...


@dataclass
class ProcessDecoder:
    """A ``Decoder`` in a child process that stays warm, and is killed and replaced when it hangs or dies.

    ``backend`` is ``decord`` or ``pyav``. ``silence_s`` bounds the wait for the next frame and ``limit_s`` the
    waiting for one call of ``frames`` as a whole (the caller's own time between frames does not count). A broken
    file does not raise: the frames that decode come out, and ``summary`` says what was missing. Picklable; not for
    two threads at once.
    """

    backend: str = "decord"
    threads: int = 1
    silence_s: float = 60.0
    limit_s: float = 1800.0
    _summary: DecodeSummary = field(default=DecodeSummary(), repr=False)
    _features: ShotFeatures = field(default_factory=ShotFeatures.of_nothing, repr=False, compare=False)
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False, compare=False)
    _memory: FrameMemory | None = field(default=None, repr=False, compare=False)

    @property
    def summary(self) -> DecodeSummary:
        """Of the last call of ``frames`` that was read to its end."""
        return self._summary

    def frames(
        self,
        path: str | Path,
        *,
        indices: Sequence[int] | None = None,
        step: int = 1,
        size: tuple[int, int] | None = None,
    ) -> Iterator[DecodedFrame]:
        """See ``Decoder.frames``. Raises DecodeTimeout, DecoderCrashed; one frame is in memory at a time."""
        chosen = None if indices is None else [int(i) for i in indices]
        for header, _ in self._read(path, {"step": step, "size": size, "indices": chosen}):
            if header["kind"] == "frame":
                yield DecodedFrame(header["frame_index"], header["time_s"], header["rgb"])

    def survey(self, path: str | Path, config: SurveyConfig) -> Iterator[SampledFrame]:
        """Decode every frame once, and give those on which faces are looked for (``survey.py``).

        ``features`` then has those of all frames. Raises DecodeTimeout, DecoderCrashed.
        """
        self._features = ShotFeatures.of_nothing()
        for header, data in self._read(path, {"step": 1, "survey": asdict(config)}):
            if header["kind"] == "frame":
                yield SampledFrame(header["frame_index"], header["time_s"], header["rgb"], header["after_cut"])
            else:
                self._features = ShotFeatures.from_bytes(data)

    @property
    def features(self) -> ShotFeatures:
        """Of every frame that the last call of ``survey``, if it was read to its end, decoded."""
        return self._features

    def _read(self, path: str | Path, asked: dict[str, Any]) -> Iterator[tuple[dict[str, Any], bytearray]]:
        """The messages that answer a request for frames, up to the end, which ``summary`` keeps; ``rgb`` is a frame's
        own copy of its pixels."""
        self._summary = DecodeSummary()
        request = {"path": str(path), "backend": self.backend, "threads": self.threads, **asked}
        process = self._started()
        finished = False
        waiting = _Deadline(self.silence_s, self.limit_s)
        try:
            _write(process, json.dumps(request).encode() + b"\n")
            while not finished:
                header, data = _read_message(process, waiting, str(path))
                finished = header["kind"] == "end"
                if finished:
                    self._summary = DecodeSummary(**{name: n for name, n in header.items() if name != "kind"})
                else:
                    assert self._memory is not None
                    header["rgb"] = self._memory.read(header["number"], header["slot_bytes"], header["shape"])
                    _write(process, b"\n")
                yield header, data
        finally:
            if not finished:  # left early, hung or dead: what it would still say belongs to no later call
                self.close()

    def probe(self, path: str | Path) -> dict[str, Any]:
        """What the container says (``probe.probe_file``), asked in the child process."""
        return self._ask({"probe": str(path)}, str(path))

    def _ask(self, request: dict[str, Any], what: str) -> dict[str, Any]:
        process, finished = self._started(), False
        try:
            _write(process, json.dumps(request).encode() + b"\n")
            header, _ = _read_message(process, _Deadline(self.silence_s, self.limit_s), what)
            finished = True
            header.pop("kind")
            return header
        finally:
            if not finished:
                self.close()

    def close(self) -> None:
        """End the child process; the next call starts another."""
        process, self._process = self._process, None
        memory, self._memory = self._memory, None
        if memory is not None:  # also where its process could not be started
            memory.close()
        if process is None:
            return
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe:
                pipe.close()

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            self.close()
            # the worker must find this package however the caller found it
            root = str(Path(__file__).resolve().parents[2])
            paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
            descriptor = open_frame_memory()
            self._memory = FrameMemory(descriptor)
            self._process = subprocess.Popen(
                [sys.executable, "-m", "pipelines.media.decode_worker", str(descriptor)],
                pass_fds=[descriptor],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                bufsize=0,
                env=os.environ | {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"},
            )
        return self._process

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_process": None, "_memory": None}

    def __del__(self) -> None:
        self.close()


@dataclass
class _Deadline:
    """How long may still be waited: for the next bytes, and for the whole call."""

    silence_s: float
    left_s: float

    def wait(self, stream: Any, what: str) -> None:
        start = time.monotonic()
        with selectors.PollSelector() as selector:
            selector.register(stream, selectors.EVENT_READ)
            ready = selector.select(max(0.0, min(self.silence_s, self.left_s)))
        self.left_s -= time.monotonic() - start
        if not ready:
            raise DecodeTimeout(f"{what}: the decoder was silent for {self.silence_s:g} s, or slower than its limit")


def _read_message(process: subprocess.Popen[bytes], waiting: _Deadline, what: str) -> tuple[dict[str, Any], bytearray]:
    (length,) = struct.unpack(">I", _read_exactly(process, 4, waiting, what))
    header = json.loads(_read_exactly(process, length, waiting, what))
    return header, _read_exactly(process, header.pop("nbytes", 0), waiting, what)


def _read_exactly(process: subprocess.Popen[bytes], length: int, waiting: _Deadline, what: str) -> bytearray:
    assert process.stdout is not None
    data = bytearray(length)
    view, got = memoryview(data), 0
    while got < length:
        waiting.wait(process.stdout, what)
        count = process.stdout.readinto(view[got:])  # type: ignore[attr-defined]  # raw: bufsize is 0
        if not count:
            raise DecoderCrashed(f"{what}: the decoder's process ended with status {process.wait()}")
        got += count
    return data


def _write(process: subprocess.Popen[bytes], line: bytes) -> None:
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError):  # it died between two calls: reading from it says so
        process.stdin.write(line)
