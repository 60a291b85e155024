"""Decoding of a file's frames with PyAV, in the process that calls it: upright, square pixels, 8-bit RGB.

``decoder.py`` runs this in a process of its own, as files of strangers need; benchmarks call it directly.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipelines.media.containers import OPEN_OPTIONS, check_frame
from pipelines.media.timeline import PacketTimes, Timeline, read_timeline
from pipelines.media.tone_mapping import is_hdr, map_to_sdr
from pipelines.media.video_stream import frame_geometry, select_stream

NO_STREAM = "no video stream"
"""Error of a container without a video stream."""


UNSPECIFIED = 2
"""Number of the matrix coefficients, in ITU-T H.273, of a stream that does not state them."""
HD_HEIGHT = 720
"""Height of stored frames from which such a stream is taken for BT.709, pixels; below, for BT.601."""


@dataclass
class DecodeCounts:
    """Counts of the frames of one request."""

    n_indexed: int = 0
    """Number of frames that the file's packets should give."""
    n_decoded: int = 0
    """Number of decoded frames, also those that were not requested."""
    n_corrupt: int = 0
    """Number of packets that did not decode and of frames flagged as damaged, which are not returned."""
    n_discarded: int = 0
    """Number of packets that the container marks as not shown, because an edit list cuts them."""
    n_missing: int = 0
    """Number of packets that the container promises after the last one: the file was cut off."""
    error: str = ""
    """Message of the decoder; empty if it reported no error."""


Frame = tuple[int, float, npt.NDArray[np.uint8]]
"""Decoded frame: (index, time in seconds, (H, W, 3) RGB)."""


def read_frames(
    path: str | Path,
    counts: DecodeCounts | None = None,
    *,
    indices: Sequence[int] | None = None,
    step: int = 1,
    size: Sequence[int] | None = None,
    threads: int = 1,
) -> Iterator[Frame]:
    """Yield frames in the order of their presentation times; damage is counted, not raised.

    Packets that do not decode are skipped. If ``indices`` are requested of a file in which frames are named by time,
    decoding begins at the keyframe before the first of them; should a requested frame not come out in that way, it is
    decoded from the start of the file.

    Args:
        path: A local file.
        counts: Counts of the frames, which are updated.
        indices: Indices of the frames, ascending; None yields every ``step``-th frame.
        step: Distance between the indices of consecutive frames, if ``indices`` is None.
        size: (width, height) to which frames are resized; None keeps their size.
        threads: Number of threads of the decoder.
    """
    counts = counts if counts is not None else DecodeCounts()
    try:
        timeline = open_timeline(str(path), counts)
        if timeline is None:
            return
        reader = _FrameDecoder(str(path), timeline, counts, size, threads)
        if indices is None:
            yield from reader.read_all(step)
        else:
            yield from reader.read_chosen([i for i in indices if 0 <= i < len(timeline.times)])
    except Exception as error:
        counts.error = counts.error or shorten_error(error)


class _FrameDecoder:
    """Decoder of one file's frames."""

    def __init__(
        self, path: str, timeline: Timeline, counts: DecodeCounts, size: Sequence[int] | None, threads: int
    ) -> None:
        from av.video.reformatter import VideoReformatter

        self._path, self._timeline, self._counts = path, timeline, counts
        self._size, self._threads = size, threads
        self._reformatter = VideoReformatter()  # a new one a frame would cost as much as the conversion

    def read_all(self, step: int) -> Iterator[Frame]:
        """Yield every ``step``-th frame."""
        for index, frame, stream in self._decode(None):
            if index % step == 0:
                yield self._convert(index, frame, stream)

    def read_chosen(self, indices: Sequence[int]) -> Iterator[Frame]:
        """Yield the frames with these indices, ascending."""
        if not indices:
            return
        if self._timeline.seekable:
            frames = self._pick(indices, seek=True)
            first = next(frames, None)
            if first and first[0] == indices[0]:
                yield first
                yield from frames
                return
        yield from self._pick(indices, seek=False)  # the only way to a frame that needs more than its keyframe

    def _pick(self, indices: Sequence[int], seek: bool) -> Iterator[Frame]:
        requested = set(indices)
        for index, frame, stream in self._decode(self._timeline.times[indices[0]] if seek else None):
            if index in requested:
                yield self._convert(index, frame, stream)
            if index >= indices[-1]:
                return

    def _decode(self, from_time: int | None) -> Iterator[tuple[int, Any, Any]]:
        """Yield (index, frame, stream) of every sound frame from the keyframe before a time, or from the start."""
        import av

        with av.open(self._path, options=OPEN_OPTIONS) as container:
            stream = select_stream(container)
            stream.codec_context.thread_count = self._threads
            if self._threads > 1:
                stream.codec_context.thread_type = "AUTO"
            if from_time is not None:
                container.seek(from_time, stream=stream)
            for position, frame in enumerate(_decode_packets(container, stream, self._counts)):
                index = self._timeline.index(frame.pts, position)
                if frame.is_corrupt:
                    self._counts.n_corrupt += 1
                elif index is not None:
                    self._counts.n_decoded += 1
                    yield index, frame, stream

    def _convert(self, index: int, frame: Any, stream: Any) -> Frame:
        pixels = to_upright_rgb(frame, self._size, self._reformatter, stream.sample_aspect_ratio)
        return index, self._timeline.seconds(index), pixels


def is_untagged_hd(frame: Any) -> bool:
    """Return True for a frame that does not state its matrix, and is so high that players take it for BT.709.

    FFmpeg takes such a frame for BT.601.

    Args:
        frame: The decoded frame.
    """
    return int(frame.colorspace) == UNSPECIFIED and frame.height >= HD_HEIGHT


def to_upright_rgb(
    frame: Any, size: Sequence[int] | None = None, reformatter: Any = None, pixel_ratio: Any = None
) -> npt.NDArray[np.uint8]:
    """Convert an ``av.VideoFrame`` to RGB: square pixels, upright, and SDR.

    Args:
        frame: The decoded frame.
        size: (width, height) to which the upright frame is resized; None keeps its size.
        reformatter: ``VideoReformatter`` that is reused from frame to frame; None makes one.
        pixel_ratio: The stream's sample aspect ratio; None means square pixels.

    Returns:
        (H, W, 3).

    Raises:
        FrameTooLarge: The frame has too many pixels (``containers.py``).
    """
    from av.video.reformatter import Colorspace

    geometry = frame_geometry(frame, pixel_ratio)
    width, height = geometry.square_size(frame.width, frame.height)
    if size:
        width, height = size[::-1] if geometry.transposed else size
    check_frame(frame.width, frame.height)
    check_frame(width, height)
    hdr = is_hdr(int(frame.color_trc))
    matrix = Colorspace.ITU709 if is_untagged_hd(frame) and not hdr else None
    reformat = reformatter.reformat if reformatter else type(frame).reformat
    target = {
        "width": width,
        "height": height,
        "format": "rgb48le" if hdr else "rgb24",
        "src_colorspace": matrix,
        "threads": 1,
    }
    pixels = reformat(frame, **target).to_ndarray()
    return geometry.turn(map_to_sdr(pixels, int(frame.color_trc)) if hdr else pixels)


def shorten_error(error: Exception) -> str:
    """Return an error's class and the first line of its message.

    Args:
        error: The error.
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:200] if lines else ''}"


def open_timeline(path: str, counts: DecodeCounts) -> Timeline | None:
    """Return the numbers and times of a file's frames, and count them; None if the file has no video stream.

    Args:
        path: A local file.
        counts: Counts of the frames, which are updated.

    Raises:
        FFmpegError: The file cannot be opened.
    """
    import av

    with av.open(path, options=OPEN_OPTIONS) as container:
        stream = select_stream(container)
        if stream is None:
            counts.error = NO_STREAM
            return None
        packets = (
            PacketTimes(p.pts, p.dts, not p.is_discard) for p in _read_packets(container, stream, counts) if p.size
        )
        timeline = read_timeline(
            packets,
            stream.time_base,
            format_name=container.format.name,
            codec=stream.codec_context.name,
            rate=stream.guessed_rate or stream.average_rate,
            promised=stream.frames or None,
        )
    counts.n_indexed, counts.n_discarded, counts.n_missing = len(timeline.times), timeline.n_cut, timeline.n_missing
    return timeline


def _read_packets(container: Any, stream: Any, counts: DecodeCounts) -> Iterator[Any]:
    """Yield the packets of the video up to the end or the first read error, which goes to ``counts.error``."""
    from av.error import FFmpegError

    packets = container.demux(stream)
    while True:
        try:
            yield next(packets)
        except StopIteration:
            return
        except FFmpegError as error:
            counts.error = shorten_error(error)
            return


def _decode_packets(container: Any, stream: Any, counts: DecodeCounts) -> Iterator[Any]:
    """Yield the decoded frames, and count the packets that do not decode."""
    from av.error import EOFError as StreamEnd
    from av.error import FFmpegError

    for packet in _read_packets(container, stream, counts):
        try:
            yield from packet.decode()
        except StreamEnd:
            return
        except FFmpegError as error:
            counts.n_corrupt += 1
            counts.error = counts.error or shorten_error(error)
