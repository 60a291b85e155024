"""Decoding of a video's frames in a child process, so that a hang or a crash ends only that process."""

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
from pipelines.media.sandbox import MEMORY_BYTES, worker_environment
from pipelines.media.shot_features import ShotFeatures
from pipelines.media.survey import SampledFrame, SurveyConfig


class DecodedFrame(NamedTuple):
    """One decoded frame."""

    frame_index: int
    """Rank of the frame by presentation time, from 0."""
    time_s: float
    """Time since the first frame, seconds."""
    rgb: np.ndarray
    """(H, W, 3) uint8 RGB, upright, with square pixels; BT.709, also of HDR video."""


@dataclass(frozen=True)
class DecodeSummary:
    """Counts of the frames of one call of ``frames`` or ``survey``.

    The fields have the meaning of those of ``frame_reader.DecodeCounts``.
    """

    n_indexed: int = 0
    """Number of frames that the file's packets should give."""
    n_decoded: int = 0
    """Number of decoded frames."""
    n_corrupt: int = 0
    """Number of packets that did not decode and of frames flagged as damaged."""
    n_discarded: int = 0
    """Number of packets that the container marks as not shown."""
    n_missing: int = 0
    """Number of packets that the container promises after the last one: the file was cut off."""
    error: str = ""
    """Message of the decoder; empty if it reported no error."""

    @property
    def is_complete(self) -> bool:
        """True if every frame of the file was decoded, in a call without ``indices``."""
        lost = self.n_corrupt or self.n_missing or self.error
        return not lost and self.n_decoded >= self.n_indexed


class DecodeTimeout(RuntimeError):
    """Error for a decoder that returned nothing within its time limit."""


class DecoderCrashed(RuntimeError):
    """Error for a decoder whose process died."""


class Decoder(Protocol):
    """A reader of a video file's frames."""

    @property
    def summary(self) -> DecodeSummary:
        """Counts of the last call of ``frames`` that was read to its end."""
        ...

    def frames(
        self,
        path: str | Path,
        *,
        indices: Sequence[int] | None = None,
        step: int = 1,
        size: tuple[int, int] | None = None,
    ) -> Iterator[DecodedFrame]:
        """Yield frames of a video file in the order of their presentation times.

        Args:
            path: A local file.
            indices: Indices of the frames, ascending; None yields every ``step``-th frame.
            step: Distance between the indices of consecutive frames, if ``indices`` is None.
            size: (width, height) to which frames are resized; None keeps their size.
        """
        ...


@dataclass
class ProcessDecoder:
    """A ``Decoder`` in a child process, which is reused between calls, and replaced if it hangs or dies.

    A damaged file raises no error: the frames that decode are yielded, and ``summary`` counts the missing ones. An
    instance can be pickled; two threads must not use it at the same time.
    """

    threads: int = 1
    """Number of threads of the decoding library."""
    backend: str = "pyav"
    """Library that decodes: pyav, or decord for files on which it can be trusted (``decord_reader.py``)."""
    silence_s: float = 60.0
    """Longest wait for the next frame, seconds."""
    limit_s: float = 1800.0
    """Longest wait for all frames of one call, seconds; the caller's own time between frames does not count."""
    memory_bytes: int = MEMORY_BYTES
    """Memory that the decoding of a file may take, bytes."""
    _summary: DecodeSummary = field(default=DecodeSummary(), repr=False)
    _features: ShotFeatures = field(default_factory=ShotFeatures.empty, repr=False, compare=False)
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False, compare=False)
    _memory: FrameMemory | None = field(default=None, repr=False, compare=False)

    @property
    def summary(self) -> DecodeSummary:
        """Counts of the last call of ``frames`` or ``survey`` that was read to its end."""
        return self._summary

    def frames(
        self,
        path: str | Path,
        *,
        indices: Sequence[int] | None = None,
        step: int = 1,
        size: tuple[int, int] | None = None,
    ) -> Iterator[DecodedFrame]:
        """Yield frames of a video file in the order of their presentation times, one at a time.

        Args:
            path: A local file.
            indices: Indices of the frames, ascending; None yields every ``step``-th frame.
            step: Distance between the indices of consecutive frames, if ``indices`` is None.
            size: (width, height) to which frames are resized; None keeps their size.

        Raises:
            DecodeTimeout: The decoder exceeded ``silence_s`` or ``limit_s``.
            DecoderCrashed: The decoder's process died.
        """
        requested = None if indices is None else [int(i) for i in indices]
        for header, _ in self._read(path, {"step": step, "size": size, "indices": requested}):
            if header["kind"] == "frame":
                yield DecodedFrame(header["frame_index"], header["time_s"], header["rgb"])

    def survey(self, path: str | Path, config: SurveyConfig) -> Iterator[SampledFrame]:
        """Decode every frame once, and yield the frames in which faces are to be detected (``survey.py``).

        Afterwards ``features`` holds the shot features of all frames.

        Args:
            path: A local file.
            config: Rate of the sampled frames and thresholds of the cuts.

        Raises:
            DecodeTimeout: The decoder exceeded ``silence_s`` or ``limit_s``.
            DecoderCrashed: The decoder's process died.
        """
        self._features = ShotFeatures.empty()
        for header, data in self._read(path, {"step": 1, "survey": asdict(config)}):
            if header["kind"] == "frame":
                yield SampledFrame(header["frame_index"], header["time_s"], header["rgb"], header["after_cut"])
            else:
                self._features = ShotFeatures.from_bytes(data)

    @property
    def features(self) -> ShotFeatures:
        """Shot features of all frames of the last call of ``survey``; empty if it was not read to its end."""
        return self._features

    def _read(self, path: str | Path, options: dict[str, Any]) -> Iterator[tuple[dict[str, Any], bytearray]]:
        """Yield the messages that answer a request for frames, each as its JSON header and its data.

        ``rgb`` of the header is a copy of the frame's pixels. The counts of the last message become ``summary``.
        """
        self._summary = DecodeSummary()
        request = {"path": str(path), "backend": self.backend, "threads": self.threads, **options}
        request["memory_bytes"] = self.memory_bytes
        process = self._running_process()
        finished = False
        deadline = _Deadline(self.silence_s, self.limit_s)
        try:
            _write(process, json.dumps(request).encode() + b"\n")
            while not finished:
                header, data = _read_message(process, deadline, str(path))
                finished = header["kind"] == "end"
                if finished:
                    self._summary = DecodeSummary(**{name: n for name, n in header.items() if name != "kind"})
                else:
                    assert self._memory is not None
                    header["rgb"] = self._memory.read(header["number"], header["slot_bytes"], header["shape"])
                    _write(process, b"\n")
                yield header, data
        finally:
            if not finished:  # left early, hung or dead: late answers must not reach the next call
                self.close()

    def probe(self, path: str | Path) -> dict[str, Any]:
        """Read a container's metadata in the child process.

        Args:
            path: A local file.

        Returns:
            The metadata as ``probe.probe_file`` returns them.

        Raises:
            DecodeTimeout: The library did not answer in time.
            DecoderCrashed: The child process died.
        """
        process, finished = self._running_process(), False
        try:
            _write(process, json.dumps({"probe": str(path), "memory_bytes": self.memory_bytes}).encode() + b"\n")
            header, _ = _read_message(process, _Deadline(self.silence_s, self.limit_s), str(path))
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
        if memory is not None:  # even if its process could not be started
            memory.close()
        if process is None:
            return
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe:
                pipe.close()

    def _running_process(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            self.close()
            # the worker must find this package, wherever the caller imported it from
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
                env=worker_environment(os.pathsep.join(paths)),
            )
        return self._process

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_process": None, "_memory": None}

    def __del__(self) -> None:
        self.close()


@dataclass
class _Deadline:
    """Time limits of one call."""

    silence_s: float
    """Longest wait for the next bytes, seconds."""
    left_s: float
    """Waiting time that is left for the complete call, seconds."""

    def wait(self, stream: Any, path: str) -> None:
        start = time.monotonic()
        with selectors.PollSelector() as selector:
            selector.register(stream, selectors.EVENT_READ)
            ready = selector.select(max(0.0, min(self.silence_s, self.left_s)))
        self.left_s -= time.monotonic() - start
        if not ready:
            raise DecodeTimeout(f"{path}: the decoder was silent for {self.silence_s:g} s, or slower than its limit")


def _read_message(process: subprocess.Popen[bytes], deadline: _Deadline, path: str) -> tuple[dict[str, Any], bytearray]:
    (length,) = struct.unpack(">I", _read_exactly(process, 4, deadline, path))
    header = json.loads(_read_exactly(process, length, deadline, path))
    return header, _read_exactly(process, header.pop("nbytes", 0), deadline, path)


def _read_exactly(process: subprocess.Popen[bytes], length: int, deadline: _Deadline, path: str) -> bytearray:
    assert process.stdout is not None
    data = bytearray(length)
    view, n_read = memoryview(data), 0
    while n_read < length:
        deadline.wait(process.stdout, path)
        count = process.stdout.readinto(view[n_read:])  # type: ignore[attr-defined]  # raw: bufsize is 0
        if not count:
            raise DecoderCrashed(f"{path}: the decoder's process ended with status {process.wait()}")
        n_read += count
    return data


def _write(process: subprocess.Popen[bytes], line: bytes) -> None:
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError):  # the process died between two calls: the next read raises
        process.stdin.write(line)
