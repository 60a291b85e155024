"""The process that decodes video: ``python -m pipelines.media.decode_worker``.

Native decoders crash and hang on bad files. In a separate process they do no further harm: ``decoder.py`` kills it and
starts another. The process reads JSON requests from stdin, one per line, and writes messages to stdout. A message is
the length of its JSON in four bytes (big-endian), the JSON, and then ``nbytes`` bytes of data if the JSON has that key.
Pixels go through memory that both processes share (``frame_memory.py``); its file descriptor is the only argument of
the command.

A request for metadata has the key ``probe``, a path; the answer is one message ``{"kind": "probed", ...}``
(``probe.py``).

A request for frames has ``path``, ``backend`` (a key of ``READERS``), and ``step`` or ``indices`` (ascending), ``size``
([width, height] or null) and ``threads``, as ``frame_reader.read_frames`` takes them. The answers are messages
``{"kind": "frame", "frame_index", "time_s", "shape", "number", "slot_bytes"}`` in order, then one message
``{"kind": "end", ...}`` with the fields of ``DecodeCounts``. The parent sends an empty line each time it has copied a
frame.

If a request has ``survey`` (the fields of ``SurveyConfig``), every frame is decoded and measured, but only the sampled
frames are sent (``survey.py``). Their messages also have ``after_cut``, and the data of the ``end`` message is the
serialised ``ShotFeatures``.
"""

from __future__ import annotations

import json
import os
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from importlib import import_module
from typing import IO, Any

import numpy as np

from pipelines.media.decord_reader import read_frames_by_decord
from pipelines.media.frame_memory import SLOTS, FrameMemory
from pipelines.media.frame_reader import DecodeCounts, Frame, read_frames
from pipelines.media.probe import probe_file
from pipelines.media.sandbox import load_confinement, name_for_libraries, run_confined
from pipelines.media.shots import ShotConfig
from pipelines.media.survey import SurveyConfig, Surveyor

READERS: dict[str, Callable[..., Iterator[Frame]]] = {"pyav": read_frames, "decord": read_frames_by_decord}
"""Backend to its function."""


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
    import_module("av")  # once, and not in each confined process
    for line in iter(requests.readline, b""):
        request = json.loads(line)
        if request.get("backend") == "decord":
            import_module("decord")
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
    counts = DecodeCounts()
    options: dict[str, Any] = {name: request.get(name) for name in ("indices", "size")}
    options |= {name: request.get(name) or 1 for name in ("step", "threads")}
    frames = READERS[request["backend"]](name_for_libraries(request["path"]), counts, **options)
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
