"""The process that decodes: ``python -m pipelines.media.decode_worker``.

Native decoders crash and hang on bad files; here that costs this process alone (``decoder.py`` kills it
and starts another). It reads one JSON request a line from stdin and answers with messages on stdout: four
bytes of length (big-endian), that many bytes of JSON, then ``nbytes`` more where the JSON says so. Pixels go through
memory that both processes see (``frame_memory.py``; its descriptor is the one argument).

A request for metadata has ``probe``, a path; the answer is one ``{"kind": "probed", ...}`` (``probe.py``).
A request for frames has ``path``, ``backend`` (decord, pyav), ``step`` or ``indices`` (ascending), ``size``
([width, height] or null) and ``threads``. Answers: ``{"kind": "frame", "frame_index", "time_s", "shape", "number",
"slot_bytes"}`` in order, each to be answered by an empty line when the frame was copied, then one ``{"kind": "end",
...}`` with the fields of ``Ending``.
With ``survey`` (the fields of ``SurveyConfig``) every frame is decoded and looked at, the sampled ones alone are given
(``survey.py``; their messages have ``after_cut`` too), and ``ShotFeatures`` as bytes follow the end's JSON.

A frame's index is its rank by presentation time among the packets that the container holds, with both backends.
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
from typing import IO, Any

import numpy as np

from pipelines.media.frame_memory import SLOTS, FrameMemory
from pipelines.media.probe import probe_file
from pipelines.media.shots import ShotConfig
from pipelines.media.survey import SurveyConfig, Surveyor


@dataclass
class Ending:
    """What one request came to; ``error`` is empty when nothing was said."""

    n_indexed: int = 0
    """Frames that the container's packets promise."""
    n_decoded: int = 0
    """Frames that were decoded, whether asked for or passed over (PyAV), or handed out (decord)."""
    n_corrupt: int = 0
    """Packets that did not decode, and frames that the decoder flags as damaged: they are not given (PyAV)."""
    n_discarded: int = 0
    """Packets that the container says are not to be shown: an edit list cuts them (PyAV)."""
    error: str = ""


Frame = tuple[int, float, np.ndarray]


def wanted(request: dict[str, Any], n_frames: int) -> list[int]:
    """The indices that a request asks for, ascending, inside the file."""
    if request.get("indices") is not None:
        return [i for i in request["indices"] if 0 <= i < n_frames]
    return list(range(0, n_frames, request["step"]))


def decord_frames(request: dict[str, Any], ending: Ending) -> Iterator[Frame]:
    """Frames by decord, which obeys the rotation that the container states.

    Every frame is stepped through with ``next()`` where all are wanted, because only that tells of damage;
    ``get_batch`` is silent. Errors end up in ``ending.error``, after the frames before them.
    """
    import decord

    decord.logging.set_level(decord.logging.QUIET)
    width, height = request.get("size") or (-1, -1)
    try:
        reader = decord.VideoReader(request["path"], width=width, height=height, num_threads=request["threads"])
    except Exception as error:
        ending.error = _short(error)
        return
    ending.n_indexed = len(reader)
    indices = wanted(request, len(reader))
    every = indices == list(range(len(reader)))
    try:
        for index in indices:
            pixels = (reader.next() if every else reader[index]).asnumpy()
            start, _ = reader.get_frame_timestamp(index)
            ending.n_decoded += 1
            yield index, float(start), pixels
    except StopIteration:
        ending.error = f"decoder stopped at frame {ending.n_decoded} of {len(reader)}"
    except Exception as error:
        ending.error = _short(error)


def pyav_frames(request: dict[str, Any], ending: Ending) -> Iterator[Frame]:
    """Frames by PyAV, for what decord cannot read: packets that fail are counted and passed over.

    Where ``indices`` are asked for, decoding begins at the keyframe before the first and ends with the last.
    """
    import av

    try:
        with av.open(request["path"]) as container:
            if not container.streams.video:
                ending.error = "no video stream"
                return
            times, ending.n_discarded = _presentation_times(container)
        ending.n_indexed = len(times)
        index_of = {pts: i for i, pts in enumerate(times)}
        chosen = set(wanted(request, len(times)))
        with av.open(request["path"]) as container:
            stream = container.streams.video[0]
            stream.codec_context.thread_count = request["threads"]
            chosen_alone = request.get("indices") is not None
            if chosen_alone and not chosen:
                return
            if chosen_alone:
                container.seek(times[min(chosen)], stream=stream)
            for frame in _decoded(container, ending):
                if frame.pts not in index_of:
                    continue
                if frame.is_corrupt:
                    ending.n_corrupt += 1
                    continue
                ending.n_decoded += 1
                index = index_of[frame.pts]
                if index in chosen:
                    pixels = upright(frame, request.get("size"))
                    yield index, float((frame.pts - times[0]) * stream.time_base), pixels
                if chosen_alone and index >= max(chosen):
                    return
    except Exception as error:
        ending.error = _short(error)


def _presentation_times(container: Any) -> tuple[list[int], int]:
    """Ascending times of the packets that are to be shown, in the stream's time base, and how many are not."""
    packets = [(p.pts, p.is_discard) for p in _packets(container, Ending()) if p.pts is not None]
    times = sorted(pts for pts, discarded in packets if not discarded)
    return times, len(packets) - len(times)


def upright(frame: Any, size: list[int] | None) -> np.ndarray:
    """An ``av.VideoFrame`` as RGB, turned as its display matrix asks, then stretched to ``size`` (width, height)."""
    turns = round(frame.rotation / 90) % 4  # PyAV gives degrees anticlockwise, np.rot90 turns anticlockwise
    if size:
        width, height = size if turns % 2 == 0 else size[::-1]
        frame = frame.reformat(width=width, height=height, format="rgb24")
    return np.ascontiguousarray(np.rot90(frame.to_ndarray(format="rgb24"), turns))


def _packets(container: Any, ending: Ending) -> Iterator[Any]:
    """The video's packets, up to the end of what can be read."""
    from av.error import FFmpegError

    packets = container.demux(video=0)
    while True:
        try:
            yield next(packets)
        except StopIteration:
            return
        except FFmpegError as error:
            ending.error = _short(error)
            return


def _decoded(container: Any, ending: Ending) -> Iterator[Any]:
    from av.error import EOFError as StreamEnd
    from av.error import FFmpegError

    for packet in _packets(container, ending):
        try:
            yield from packet.decode()
        except StreamEnd:
            return
        except FFmpegError as error:
            ending.n_corrupt += 1
            ending.error = ending.error or _short(error)


Backend = Callable[[dict[str, Any], Ending], Iterator[Frame]]

BACKENDS: dict[str, Backend] = {"decord": decord_frames, "pyav": pyav_frames}


def serve(requests: IO[bytes], answers: IO[bytes], memory: FrameMemory) -> None:
    """Answer requests until ``requests`` ends."""
    for line in iter(requests.readline, b""):
        request = json.loads(line)
        if "probe" in request:
            _send(answers, {"kind": "probed", **probe_file(request["probe"])})
            continue
        ending = Ending()
        frames = BACKENDS[request["backend"]](request, ending)
        handing = _Handing(requests, answers, memory)
        if request.get("survey"):
            _survey(handing, request["survey"], frames, ending)
            continue
        for index, time_s, pixels in frames:
            handing.frame(pixels, frame_index=index, time_s=time_s)
        handing.end(ending)


def _survey(handing: _Handing, config: dict[str, Any], frames: Iterator[Frame], ending: Ending) -> None:
    surveyor = Surveyor(SurveyConfig(**config | {"shots": ShotConfig(**config["shots"])}))
    for index, time_s, pixels, after_cut in surveyor.sampled(frames):
        handing.frame(pixels, frame_index=index, time_s=time_s, after_cut=after_cut)
    handing.end(ending, surveyor.features().to_bytes())


class _Handing:
    """Hands the frames of one request over; a slot is used again when its frame was copied."""

    def __init__(self, requests: IO[bytes], answers: IO[bytes], memory: FrameMemory) -> None:
        self._requests, self._answers, self._memory = requests, answers, memory
        self._given = self._copied = self._slot_bytes = 0

    def frame(self, pixels: np.ndarray, **header: Any) -> None:
        larger = pixels.nbytes > self._slot_bytes
        self._wait_until_copied(self._given - (0 if larger else SLOTS - 1))
        if larger:  # the slots move, so none may be in use
            self._slot_bytes = pixels.nbytes
        number, self._given = self._given, self._given + 1
        self._memory.write(number, self._slot_bytes, pixels)
        place = {"shape": pixels.shape, "number": number, "slot_bytes": self._slot_bytes}
        _send(self._answers, {"kind": "frame", **header, **place})

    def end(self, ending: Ending, data: bytes = b"") -> None:
        self._wait_until_copied(self._given)
        _send(self._answers, {"kind": "end", **asdict(ending), "nbytes": len(data)}, data)

    def _wait_until_copied(self, n_frames: int) -> None:
        while self._copied < n_frames:
            if not self._requests.readline():
                raise BrokenPipeError("nobody reads the frames any more")
            self._copied += 1


def _send(answers: IO[bytes], header: dict[str, Any], data: bytes = b"") -> None:
    encoded = json.dumps(header).encode()
    answers.write(struct.pack(">I", len(encoded)) + encoded + data)
    answers.flush()


def _short(error: Exception) -> str:
    """The error's last telling line: decord puts a stack trace behind its message."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:200] if lines else ''}"


def _die_with(parent: int) -> None:
    """End this process when its parent is gone, even while native code hangs (which a closed pipe would not tell)."""
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(1)


def main() -> None:
    """Serve on the process's own pipes; whatever native code prints goes to stderr and not among the answers."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    threading.Thread(target=_die_with, args=(os.getppid(),), daemon=True).start()
    try:
        serve(sys.stdin.buffer, answers, FrameMemory(int(sys.argv[1])))
    except BrokenPipeError:
        os._exit(0)


if __name__ == "__main__":
    main()
