"""Writer of a submission to the NeRSemble benchmark: a zip of H.264 videos."""

from __future__ import annotations

import os
import tempfile
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from nersemble.benchmark import CRF, BenchmarkTask, SubmissionVideo
from pipelines.media.video_writer import write_video

VideoFrame = NDArray[np.uint8]
"""(H, W, 3) RGB image."""


class SubmissionWriter:
    """Writer of one task's zip; the file appears under its name when the context ends without an error."""

    def __init__(self, path: Path, task: BenchmarkTask, lengths: dict[tuple[int, str], int]) -> None:
        """Set the file and the task.

        Args:
            path: Path of the finished zip.
            task: The benchmark's task.
            lengths: Number of frames by (participant, sequence), from the benchmark's ``metadata.json``.
        """
        self.path, self.task, self.lengths = path, task, lengths
        self._part = path.with_name(f".{path.name}.{os.getpid()}.part")
        self._added: set[SubmissionVideo] = set()

    def __enter__(self) -> Self:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._zip = zipfile.ZipFile(self._part, "w", zipfile.ZIP_STORED)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._zip.close()
        if kind is None and self._added:
            self._part.replace(self.path)
        else:
            self._part.unlink(missing_ok=True)

    def add(self, video: SubmissionVideo, frames: Iterable[VideoFrame]) -> None:
        """Encode a video as the benchmark's kit does (H.264, crf 14) and add it.

        Args:
            video: A video of the task.
            frames: (H, W, 3) uint8 images of the task's size.

        Raises:
            ValueError: The task has no such video, the video was added before, the frames do not have the task's size,
                or their number is not that of the recording. Nothing is added in these cases.
        """
        recording = (video.participant, video.sequence)
        if recording not in self.task.recordings or video.serial not in self.task.serials:
            raise ValueError(f"{video.member} is no video of the task {self.task.name}")
        if video in self._added:
            raise ValueError(f"{video.member} was added already")
        if recording not in self.lengths:
            raise ValueError(f"{video.member}: the task's metadata.json does not say how many frames it has")
        with tempfile.TemporaryDirectory(prefix="ffavatar-") as folder:
            written = Path(folder) / "video.mp4"
            n = write_video(written, self._check_frames(video, frames), self.task.fps, CRF)
            if n != self.lengths[recording]:
                raise ValueError(f"{video.member}: {n} frames, and the recording has {self.lengths[recording]}")
            self._zip.write(written, video.member)
        self._added.add(video)

    @property
    def missing(self) -> list[SubmissionVideo]:
        """Videos of the task that have not been added yet."""
        return [video for video in self.task.videos() if video not in self._added]

    def _check_frames(self, video: SubmissionVideo, frames: Iterable[VideoFrame]) -> Iterator[VideoFrame]:
        shape = (self.task.height, self.task.width, 3)
        for frame in frames:
            if frame.shape != shape or frame.dtype != np.uint8:
                raise ValueError(f"{video.member}: a frame of {frame.dtype} {frame.shape}; uint8 {shape} is needed")
            yield frame
