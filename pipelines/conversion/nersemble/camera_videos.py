"""Synchronous decoding of all cameras' videos of a sequence: each once, with one timestep in memory at a time."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipelines.media.decoder import DecodedFrame, DecoderCrashed, DecodeTimeout, ProcessDecoder

Image = NDArray[np.uint8]

ENDS_EARLY = "video_ends_early"
"""Reason: the video has fewer frames than the longest video of its sequence."""
DAMAGED = "video_damaged"
"""Reason: neither decoder can decode the frame."""
TOO_SLOW = "video_hangs"
"""Reason: the decoder returned nothing within its time limit, or its process died."""


class Decoders(NamedTuple):
    """The two decoders of a camera; the second decodes the frames that the first cannot decode."""

    first: ProcessDecoder
    second: ProcessDecoder


class CameraVideo:
    """A reader of the requested frames of one camera's video, in order; a missing frame does not end the reading.

    Args:
        path: The video.
        decoders: Decoders of the camera.
        indices: Indices of the requested frames, ascending.
        size: (width, height) to which frames are resized; None keeps the size of the video.
    """

    def __init__(self, path: Path, decoders: Decoders, indices: Sequence[int], size: tuple[int, int] | None) -> None:
        self.path, self.decoders, self.size = path, decoders, size
        self._indices = list(indices)
        self._error, self._n_indexed, self._decoder = "", -1, 0
        self._frames = self._decode()
        self._next = next(self._frames, None)

    def read(self, index: int) -> Image | str:
        """Return the RGB image (H, W, 3) of a frame, or the reason why it is missing; indices must ascend."""
        while self._next is not None and self._next.frame_index < index:
            self._next = next(self._frames, None)
        if self._next is not None and self._next.frame_index == index:
            return self._next.rgb
        if self._error == TOO_SLOW:
            return TOO_SLOW
        return ENDS_EARLY if 0 <= self._n_indexed <= index else DAMAGED

    def close(self) -> None:
        """Skip the rest of the video; the first decoder stays open if it has returned all requested frames."""
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
        videos: Name of the camera → video.
        indices: Indices of the frames, ascending.

    Yields:
        Index of the frame, its images by camera, and the reason for each camera without an image.
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
    """Select the frames to convert: every ``every``-th, thinned evenly to at most ``limit``, beginning with the first.

    Args:
        n_frames: Number of frames in the video.
        every: Step between frames; 1 for every frame.
        limit: Largest number of frames; 0 for no limit.

    Returns:
        Indices of the frames, ascending.
    """
    listed = list(range(0, n_frames, every))
    if not limit or len(listed) <= limit:
        return listed
    return [listed[i * len(listed) // limit] for i in range(limit)]
