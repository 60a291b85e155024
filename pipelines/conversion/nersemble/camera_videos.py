"""The videos of a sequence's cameras, decoded in step: each once, with one timestep of all in memory at a time."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipelines.media.decoder import DecodedFrame, DecoderCrashed, DecodeTimeout, ProcessDecoder

Image = NDArray[np.uint8]

ENDS_EARLY = "video_ends_early"
"""Reason: the video has fewer frames than the longest one of its sequence."""
DAMAGED = "video_damaged"
"""Reason: neither decoder decodes the frame."""
TOO_SLOW = "video_hangs"
"""Reason: the decoder returned nothing within its time limit, or its process died."""


class Decoders(NamedTuple):
    """The two decoders of a camera: the second one decodes the frames that the first one does not."""

    first: ProcessDecoder
    second: ProcessDecoder


class CameraVideo:
    """The requested frames of one camera's video, in order; a missing frame has a reason and does not end the others.

    Args:
        path: The video.
        decoders: The camera's decoders.
        indices: Numbers of the requested frames, ascending.
        size: Width and height to which frames are scaled; None for the video's own.
    """

    def __init__(self, path: Path, decoders: Decoders, indices: Sequence[int], size: tuple[int, int] | None) -> None:
        self.path, self.decoders, self.size = path, decoders, size
        self._indices = list(indices)
        self._error, self._n_indexed, self._decoder = "", -1, 0
        self._frames = self._decode()
        self._next = next(self._frames, None)

    def read(self, index: int) -> Image | str:
        """Return the image (H, W, 3) of a frame, or the reason why there is none. Indices must ascend."""
        while self._next is not None and self._next.frame_index < index:
            self._next = next(self._frames, None)
        if self._next is not None and self._next.frame_index == index:
            return self._next.rgb
        if self._error == TOO_SLOW:
            return TOO_SLOW
        return ENDS_EARLY if 0 <= self._n_indexed <= index else DAMAGED

    def close(self) -> None:
        """Skip the rest of the video. A decoder that has returned all requested frames stays open, another is ended."""
        if self._decoder == 0 and (self._next is None or self._next.frame_index == self._indices[-1]):
            next(self._frames, None)
        self._frames.close()

    def _decode(self) -> Generator[DecodedFrame, None, None]:
        remaining = list(self._indices)
        for number, decoder in enumerate(self.decoders):
            self._decoder = number
            if not remaining:
                return
            try:
                for frame in decoder.frames(self.path, indices=remaining, size=self.size):
                    remaining = [i for i in remaining if i > frame.frame_index]
                    yield frame
            except (DecodeTimeout, DecoderCrashed):
                self._error = TOO_SLOW
                continue
            summary = decoder.summary
            self._n_indexed = max(self._n_indexed, summary.n_indexed)
            if not summary.error:
                return


def read_timesteps(
    videos: Mapping[str, CameraVideo], indices: Sequence[int]
) -> Iterator[tuple[int, dict[str, Image], dict[str, str]]]:
    """Read videos frame by frame, and close them at the end.

    Args:
        videos: Videos by camera.
        indices: Numbers of the frames, ascending.

    Yields:
        The frame's number, its images by camera, and the reasons of the cameras without an image.
    """
    try:
        for index in indices:
            frames = {name: video.read(index) for name, video in videos.items()}
            yield (
                index,
                {name: frame for name, frame in frames.items() if not isinstance(frame, str)},
                {name: frame for name, frame in frames.items() if isinstance(frame, str)},
            )
    finally:
        for video in videos.values():
            video.close()


def select_frame_indices(n_frames: int, every: int, limit: int) -> list[int]:
    """Select the frames to convert: each ``every``-th, and of those at most ``limit``, evenly spaced from the first.

    Args:
        n_frames: Number of frames of the video.
        every: 1 for every frame.
        limit: Upper bound on the number of frames; 0 for none.
    """
    listed = list(range(0, n_frames, every))
    if not limit or len(listed) <= limit:
        return listed
    return [listed[i * len(listed) // limit] for i in range(limit)]
