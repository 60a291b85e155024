"""The videos of one sequence side by side: each is decoded once, and one moment of all is in memory at a time."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipelines.media.decoder import DecodedFrame, DecoderCrashed, DecodeTimeout, ProcessDecoder

Picture = NDArray[np.uint8]

ENDS_EARLY = "video_ends_early"
"""The video has fewer frames than the longest of its sequence."""
DAMAGED = "video_damaged"
"""The frame does not decode, by either decoder."""
TOO_SLOW = "video_hangs"
"""The decoder gave nothing within its time limit, or its process died."""


class Decoders(NamedTuple):
    """A camera's two: the second is for what the first does not give."""

    first: ProcessDecoder
    second: ProcessDecoder


class CameraVideo:
    """One camera's wanted frames, in order; what is missing has a reason and ends nothing."""

    def __init__(self, path: Path, decoders: Decoders, wanted: Sequence[int], size: tuple[int, int] | None) -> None:
        self.path, self.decoders, self.size = path, decoders, size
        self._wanted = list(wanted)
        self._trouble, self._promised, self._decoder = "", -1, 0
        self._frames = self._decode()
        self._next = next(self._frames, None)

    def at(self, index: int) -> Picture | str:
        """The frame's picture (H, W, 3), or the reason why there is none. Indices must ascend."""
        while self._next is not None and self._next.frame_index < index:
            self._next = next(self._frames, None)
        if self._next is not None and self._next.frame_index == index:
            return self._next.rgb
        if self._trouble == TOO_SLOW:
            return TOO_SLOW
        return ENDS_EARLY if 0 <= self._promised <= index else DAMAGED

    def close(self) -> None:
        """Leave the rest of the video. A decoder that has given all that was wanted stays warm; another is ended."""
        if self._decoder == 0 and (self._next is None or self._next.frame_index == self._wanted[-1]):
            next(self._frames, None)
        self._frames.close()

    def _decode(self) -> Generator[DecodedFrame, None, None]:
        left = list(self._wanted)
        for number, decoder in enumerate(self.decoders):
            self._decoder = number
            if not left:
                return
            try:
                for frame in decoder.frames(self.path, indices=left, size=self.size):
                    left = [i for i in left if i > frame.frame_index]
                    yield frame
            except (DecodeTimeout, DecoderCrashed):
                self._trouble = TOO_SLOW
                continue
            summary = decoder.summary
            self._promised = max(self._promised, summary.n_indexed)
            if not summary.error:
                return


def moments(
    videos: Mapping[str, CameraVideo], wanted: Sequence[int]
) -> Iterator[tuple[int, dict[str, Picture], dict[str, str]]]:
    """(frame, picture by camera, reason by camera of what has none), frame by frame."""
    try:
        for index in wanted:
            found = {name: video.at(index) for name, video in videos.items()}
            yield (
                index,
                {name: what for name, what in found.items() if not isinstance(what, str)},
                {name: what for name, what in found.items() if isinstance(what, str)},
            )
    finally:
        for video in videos.values():
            video.close()


def chosen_frames(n_frames: int, every: int, most: int) -> list[int]:
    """Each ``every``-th of ``n_frames``; of those at most ``most``, evenly spaced from the first on (0 for all)."""
    listed = list(range(0, n_frames, every))
    if not most or len(listed) <= most:
        return listed
    return [listed[i * len(listed) // most] for i in range(most)]
