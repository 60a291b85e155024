"""The process that decodes video: ``python -m pipelines.media.decode_worker``.

Native decoders crash and hang on bad files. In a separate process they do no further harm: ``decoder.py`` kills it and
starts another. The process reads JSON requests from stdin, one per line, and writes messages to stdout. A message is
the length of its JSON in four bytes (big-endian), the JSON, and then ``nbytes`` bytes of data if the JSON has that key.
Pixels go through memory that both processes share (``frame_memory.py``); its file descriptor is the only argument of
the command.

A request for metadata has the key ``probe``, a path; the answer is one message ``{"kind": "probed", ...}``
(``probe.py``).

A request for frames has ``path``, ``backend`` (decord or pyav), ``step`` or ``indices`` (ascending), ``size``
([width, height] or null) and ``threads``. The answers are messages ``{"kind": "frame", "frame_index", "time_s",
"shape", "number", "slot_bytes"}`` in order, then one message ``{"kind": "end", ...}`` with the fields of
``DecodeCounts``. The parent sends an empty line each time it has copied a frame.

If a request has ``survey`` (the fields of ``SurveyConfig``), every frame is decoded and measured, but only the sampled
frames are sent (``survey.py``). Their messages also have ``after_cut``, and the data of the ``end`` message is the
serialised ``ShotFeatures``.

With both backends, the index of a frame is its rank by presentation time among the container's packets.
"""

from __future__ import annotations

import json
import os
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from importlib import import_module
from typing import IO, Any

import numpy as np

from pipelines.media.containers import OPEN_OPTIONS, check_container, check_frame
from pipelines.media.frame_memory import SLOTS, FrameMemory
from pipelines.media.probe import probe_file
from pipelines.media.sandbox import load_confinement, name_for_libraries, run_confined
from pipelines.media.shots import ShotConfig
from pipelines.media.survey import SurveyConfig, Surveyor


@dataclass
class DecodeCounts:
    """Counts of the frames of one request."""

    n_indexed: int = 0
    """Number of frames that the container's packets should give."""
    n_decoded: int = 0
    """Number of decoded frames: with PyAV also those that were not requested, with decord only those returned."""
    n_corrupt: int = 0
    """Number of packets that did not decode and of frames flagged as damaged, which are not sent (PyAV only)."""
    n_discarded: int = 0
    """Number of packets that the container marks as not shown, because an edit list cuts them (PyAV only)."""
    error: str = ""
    """Message of the decoder; empty if it reported no error."""


Frame = tuple[int, float, np.ndarray]
"""Decoded frame: (index, time in seconds, (H, W, 3) uint8 RGB)."""


def requested_indices(request: dict[str, Any], n_frames: int) -> list[int]:
    """Return the frame indices of a request that exist in a file of ``n_frames`` frames, ascending.

    Args:
        request: The request; ``indices`` is used, or ``step`` if ``indices`` is null or missing.
        n_frames: Number of frames in the file.
    """
    if request.get("indices") is not None:
        return [i for i in request["indices"] if 0 <= i < n_frames]
    return list(range(0, n_frames, request["step"]))


def decode_by_decord(request: dict[str, Any], counts: DecodeCounts) -> Iterator[Frame]:
    """Yield the requested frames with decord, which applies the rotation stated in the container.

    If all frames are requested, they are read in order with ``next()``, because only ``next()`` reports damage;
    ``get_batch`` does not. An error is written to ``counts.error`` after the frames before it were yielded.

    Args:
        request: A request for frames, as described in the module's docstring.
        counts: Counts of the frames, which are updated.
    """
    import decord

    decord.logging.set_level(decord.logging.QUIET)
    width, height = request.get("size") or (-1, -1)
    try:
        check_container(request["path"])  # decord's own FFmpeg opens the files that a playlist names
        reader = decord.VideoReader(request["path"], width=width, height=height, num_threads=request["threads"])
    except Exception as error:
        counts.error = _shorten(error)
        return
    counts.n_indexed = len(reader)
    indices = requested_indices(request, len(reader))
    every = indices == list(range(len(reader)))
    try:
        for index in indices:
            pixels = (reader.next() if every else reader[index]).asnumpy()
            start, _ = reader.get_frame_timestamp(index)
            counts.n_decoded += 1
            yield index, float(start), pixels
    except StopIteration:
        counts.error = f"decoder stopped at frame {counts.n_decoded} of {len(reader)}"
    except Exception as error:
        counts.error = _shorten(error)


def decode_by_pyav(request: dict[str, Any], counts: DecodeCounts) -> Iterator[Frame]:
    """Yield the requested frames with PyAV, for files that decord cannot read.

    Packets that do not decode are counted and skipped. If ``indices`` are requested, decoding begins at the keyframe
    before the first of them and ends after the last.

    Args:
        request: A request for frames, as described in the module's docstring.
        counts: Counts of the frames, which are updated.
    """
    import av

    try:
        with av.open(request["path"], options=OPEN_OPTIONS) as container:
            if not container.streams.video:
                counts.error = "no video stream"
                return
            times, counts.n_discarded = _presentation_times(container)
        counts.n_indexed = len(times)
        index_of = {pts: i for i, pts in enumerate(times)}
        requested = set(requested_indices(request, len(times)))
        with av.open(request["path"], options=OPEN_OPTIONS) as container:
            stream = container.streams.video[0]
            stream.codec_context.thread_count = request["threads"]
            selective = request.get("indices") is not None
            if selective and not requested:
                return
            if selective:
                container.seek(times[min(requested)], stream=stream)
            for frame in _decode_packets(container, counts):
                if frame.pts not in index_of:
                    continue
                if frame.is_corrupt:
                    counts.n_corrupt += 1
                    continue
                counts.n_decoded += 1
                index = index_of[frame.pts]
                if index in requested:
                    pixels = to_upright_rgb(frame, request.get("size"))
                    yield index, float((frame.pts - times[0]) * stream.time_base), pixels
                if selective and index >= max(requested):
                    return
    except Exception as error:
        counts.error = _shorten(error)


def to_upright_rgb(frame: Any, size: list[int] | None) -> np.ndarray:
    """Convert an ``av.VideoFrame`` to RGB, rotated by its display matrix.

    Args:
        frame: The decoded frame.
        size: (width, height) to which the upright frame is resized; None keeps its size.

    Returns:
        (H, W, 3) uint8.
    """
    check_frame(frame.width, frame.height)
    turns = round(frame.rotation / 90) % 4  # PyAV gives degrees anticlockwise, np.rot90 turns anticlockwise
    if size:
        width, height = size if turns % 2 == 0 else size[::-1]
        frame = frame.reformat(width=width, height=height, format="rgb24")
    return np.ascontiguousarray(np.rot90(frame.to_ndarray(format="rgb24"), turns))


def _presentation_times(container: Any) -> tuple[list[int], int]:
    """Return the ascending times of the shown packets, in the stream's time base, and the number of discarded ones."""
    packets = [(p.pts, p.is_discard) for p in _read_packets(container, DecodeCounts()) if p.pts is not None]
    times = sorted(pts for pts, discarded in packets if not discarded)
    return times, len(packets) - len(times)


def _read_packets(container: Any, counts: DecodeCounts) -> Iterator[Any]:
    """Yield the packets of the video up to the end or the first read error, which goes to ``counts.error``."""
    from av.error import FFmpegError

    packets = container.demux(video=0)
    while True:
        try:
            yield next(packets)
        except StopIteration:
            return
        except FFmpegError as error:
            counts.error = _shorten(error)
            return


def _decode_packets(container: Any, counts: DecodeCounts) -> Iterator[Any]:
    """Yield the decoded frames, and count the packets that do not decode."""
    from av.error import EOFError as StreamEnd
    from av.error import FFmpegError

    for packet in _read_packets(container, counts):
        try:
            yield from packet.decode()
        except StreamEnd:
            return
        except FFmpegError as error:
            counts.n_corrupt += 1
            counts.error = counts.error or _shorten(error)


Backend = Callable[[dict[str, Any], DecodeCounts], Iterator[Frame]]

BACKENDS: dict[str, Backend] = {"decord": decode_by_decord, "pyav": decode_by_pyav}


def answer_requests(requests: IO[bytes], answers: IO[bytes], memory: FrameMemory) -> None:
    """Answer requests until the stream of requests ends, each in a confined process of its own (``sandbox.py``).

    Args:
        requests: Stream of one JSON request per line, and one empty line per copied frame.
        answers: Stream for the messages described in the module's docstring.
        memory: Shared memory for the pixels.

    Raises:
        BrokenPipeError: The process that reads the frames has ended.
    """
    load_confinement()
    import_module("av")
    for line in iter(requests.readline, b""):
        request = json.loads(line)
        if request.get("backend") == "decord":
            import_module("decord")  # once, and not in each confined process
        path = request.get("probe") or request["path"]
        work = partial(_answer_request, request, requests, answers, memory)
        status = run_confined(path, work, request["memory_bytes"])
        if status:
            sys.exit(status)


def _answer_request(request: dict[str, Any], requests: IO[bytes], answers: IO[bytes], memory: FrameMemory) -> None:
    """Answer one request, in the confined process."""
    if "probe" in request:
        _send(answers, {"kind": "probed", **probe_file(name_for_libraries(request["probe"]))})
        return
    request["path"] = name_for_libraries(request["path"])
    counts = DecodeCounts()
    frames = BACKENDS[request["backend"]](request, counts)
    sender = _FrameSender(requests, answers, memory)
    if not request.get("survey"):
        for index, time_s, pixels in frames:
            sender.send_frame(pixels, frame_index=index, time_s=time_s)
        sender.send_end(counts)
        return
    config = request["survey"]
    surveyor = Surveyor(SurveyConfig(**config | {"shots": ShotConfig(**config["shots"])}))
    for index, time_s, pixels, after_cut in surveyor.sample(frames):
        sender.send_frame(pixels, frame_index=index, time_s=time_s, after_cut=after_cut)
    sender.send_end(counts, surveyor.features().to_bytes())


class _FrameSender:
    """Sender of one request's frames; a slot of the memory is reused after its frame was copied."""

    def __init__(self, requests: IO[bytes], answers: IO[bytes], memory: FrameMemory) -> None:
        self._requests, self._answers, self._memory = requests, answers, memory
        self._n_sent = self._n_copied = self._slot_bytes = 0

    def send_frame(self, pixels: np.ndarray, **header: Any) -> None:
        larger = pixels.nbytes > self._slot_bytes
        self._wait_until_copied(self._n_sent - (0 if larger else SLOTS - 1))
        if larger:  # the slots move, so all frames must have been copied
            self._slot_bytes = pixels.nbytes
        number, self._n_sent = self._n_sent, self._n_sent + 1
        self._memory.write(number, self._slot_bytes, pixels)
        location = {"shape": pixels.shape, "number": number, "slot_bytes": self._slot_bytes}
        _send(self._answers, {"kind": "frame", **header, **location})

    def send_end(self, counts: DecodeCounts, data: bytes = b"") -> None:
        self._wait_until_copied(self._n_sent)
        _send(self._answers, {"kind": "end", **asdict(counts), "nbytes": len(data)}, data)

    def _wait_until_copied(self, n_frames: int) -> None:
        while self._n_copied < n_frames:
            if not self._requests.readline():
                raise BrokenPipeError("the process that reads the frames has closed its pipe")
            self._n_copied += 1


def _send(answers: IO[bytes], header: dict[str, Any], data: bytes = b"") -> None:
    encoded = json.dumps(header).encode()
    answers.write(struct.pack(">I", len(encoded)) + encoded + data)
    answers.flush()


def _shorten(error: Exception) -> str:
    """Return the error's class and the first line of its message, because decord appends a stack trace."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:200] if lines else ''}"


def _exit_with_parent(parent: int) -> None:
    """End this process after its parent has died, even while native code hangs and would not notice a closed pipe."""
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(1)


def main() -> None:
    """Answer requests on stdin and stdout; the output of native code is redirected to stderr, away from the answers."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    threading.Thread(target=_exit_with_parent, args=(os.getppid(),), daemon=True).start()
    try:
        answer_requests(sys.stdin.buffer, answers, FrameMemory(int(sys.argv[1])))
    except BrokenPipeError:
        os._exit(0)


if __name__ == "__main__":
    main()
