"""Synchronous decoding of all cameras' videos of a sequence: each once, with one timestep in memory at a time."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipelines.media.decoder import DecodedFrame, DecoderCrashed, DecodeTimeout, ProcessDecoder

Image = NDArray[np.uint8]

ENDS_EARLY = "video_ends_early"
"""Reason: the video has fewer frames than the longest video of its sequence."""
DAMAGED = "video_damaged"
"""Reason: the frame does not decode."""
TOO_SLOW = "video_hangs"
"""Reason: the decoder returned nothing within its time limit, or its process died."""


class CameraVideo:
    """A reader of the requested frames of one camera's video, in order; a missing frame does not end the reading.

    Args:
        path: The video.
        decoder: Decoder of the camera.
        indices: Indices of the requested frames, ascending.
        size: (width, height) to which frames are resized; None keeps the size of the video.
    """

    def __init__(
        self, path: Path, decoder: ProcessDecoder, indices: Sequence[int], size: tuple[int, int] | None
    ) -> None:
        self.path, self.decoder, self.size = path, decoder, size
        self._indices = list(indices)
        self._error, self._n_indexed = "", -1
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
        """Skip the rest of the video; the decoder stays open if it has returned all requested frames."""
        if self._next is None or self._next.frame_index == self._indices[-1]:
            next(self._frames, None)
        self._frames.close()

    def _decode(self) -> Generator[DecodedFrame, None, None]:
        if not self._indices:
            return
        try:
            yield from self.decoder.frames(self.path, indices=self._indices, size=self.size)
        except (DecodeTimeout, DecoderCrashed):
            self._error = TOO_SLOW
            return
        self._n_indexed = self.decoder.summary.n_indexed


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
