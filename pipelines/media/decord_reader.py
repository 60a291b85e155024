"""Decoding of a file's frames with decord, as far as it can be trusted; everything else is left to PyAV.

decord drops the first frames of streams without an index, repeats the last one until its count is full, and knows
neither edit lists nor pixels that are not square. So it reads only files whose packets leave no doubt, and each of its
frames must be shown at the time that the packets state; from the first one that is not, PyAV goes on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

from pipelines.media.containers import OPEN_OPTIONS, check_frame
from pipelines.media.frame_reader import DecodeCounts, Frame, is_untagged_hd, open_timeline, read_frames
from pipelines.media.timeline import Timeline
from pipelines.media.tone_mapping import is_hdr
from pipelines.media.video_stream import Geometry, frame_geometry, select_stream

TIME_SLACK_S = 0.005
"""Largest difference between the times that decord and the packets state for a frame, seconds."""


def read_frames_by_decord(
    path: str | Path,
    counts: DecodeCounts | None = None,
    *,
    indices: Sequence[int] | None = None,
    step: int = 1,
    size: Sequence[int] | None = None,
    threads: int = 1,
) -> Iterator[Frame]:
    """Yield frames as ``frame_reader.read_frames`` does, with decord where it can be trusted.

    Args:
        path: A local file.
        counts: Counts of the frames, which are updated.
        indices: Indices of the frames, ascending; None yields every ``step``-th frame.
        step: Distance between the indices of consecutive frames, if ``indices`` is None.
        size: (width, height) to which frames are resized; None keeps their size.
        threads: Number of threads of the decoder.
    """
    counts, last = counts if counts is not None else DecodeCounts(), -1
    trusted = DecodeCounts()
    timeline = _trusted_timeline(str(path), trusted)
    if timeline is not None:
        n = len(timeline.times)
        wanted = range(0, n, step) if indices is None else [i for i in indices if 0 <= i < n]
        for frame in _decode(str(path), timeline, wanted, size, threads):
            last = frame[0]
            yield frame
        if not wanted or last == wanted[-1]:
            counts.n_indexed, counts.n_decoded = n, n if indices is None else len(wanted)
            return
    rest = indices if indices is None else [i for i in indices if i > last]
    for frame in read_frames(path, counts, indices=rest, step=step, size=size, threads=threads):
        if frame[0] > last:
            yield frame


def _decode(
    path: str, timeline: Timeline, wanted: Sequence[int], size: Sequence[int] | None, threads: int
) -> Iterator[Frame]:
    """Yield the wanted frames up to the first that decord does not deliver, or not at its time."""
    import decord

    decord.logging.set_level(decord.logging.QUIET)
    width, height = size or (-1, -1)
    try:
        reader = decord.VideoReader(path, width=width, height=height, num_threads=threads)
        if len(reader) != len(timeline.times):
            return
        every = list(wanted) == list(range(len(reader)))
        for index in wanted:
            pixels = (reader.next() if every else reader[index]).asnumpy()  # only next() reports damage
            start, _ = reader.get_frame_timestamp(index)
            if abs(float(start) - timeline.seconds(index)) > TIME_SLACK_S:
                return
            yield index, timeline.seconds(index), pixels
    except Exception:  # a native decoder may raise anything; PyAV goes on from here
        return


def _trusted_timeline(path: str, counts: DecodeCounts) -> Timeline | None:
    """Return the timeline of a file that decord may read; None if it may not."""
    import av

    try:
        timeline = open_timeline(path, counts)
        if timeline is None or not timeline.seekable or timeline.n_cut or timeline.n_missing or counts.error:
            return None
        with av.open(path, options=OPEN_OPTIONS) as container:
            stream: Any = select_stream(container)
            frame = next(container.decode(stream))
            check_frame(frame.width, frame.height)
            plain = frame_geometry(frame, stream.sample_aspect_ratio or Fraction(1)) == Geometry()
            known = stream.codec_context.name in ("h264", "hevc", "vp9", "mpeg4")
            single = len(container.streams.video) == 1
            coloured = is_hdr(int(frame.color_trc)) or is_untagged_hd(frame)
            return timeline if plain and known and single and not coloured else None
    except Exception:  # PyAV reports it when it reads the file
        return None
