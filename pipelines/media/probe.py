"""Metadata of a video file's container, read with PyAV."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipelines.media.containers import (
    FRAME_TOO_LARGE,
    NOT_A_VIDEO,
    OPEN_OPTIONS,
    PLAYLIST,
    FrameTooLarge,
    check_frame,
    is_playlist,
)
from pipelines.media.video_stream import Geometry, frame_geometry, select_stream

EMPTY_FILE = "empty_file"
"""The file has zero bytes."""
NO_INDEX = "no_index"
"""The file is an mp4 or mov without ``moov`` box, because it was cut off while it was written or copied."""
NO_VIDEO_STREAM = "no_video_stream"
"""The container holds only sound or subtitles."""


def probe_file(path: str | Path) -> dict[str, Any]:
    """Read the metadata of a local file; unreadable content is reported, not raised.

    Args:
        path: A local file.

    Returns:
        ``reason`` (a constant of this module or of ``containers.py``; empty if the file is a readable video) and
        ``detail`` (the library's message). For a video there are also ``codec``, ``width`` and ``height`` (pixels of
        the upright frame), ``fps`` (average, frames per second), ``duration_s``, ``n_frames`` (stated by the container,
        including frames that an edit list cuts; None if it states no number) and ``rotation_deg`` (anticlockwise
        rotation that makes the stored frame upright: 0, 90, 180 or 270). ``fps`` and ``duration_s`` are None if
        unknown.

    Raises:
        OSError: The file does not exist or cannot be opened.
    """
    import av
    from av.error import FFmpegError

    if Path(path).stat().st_size == 0:
        return {"reason": EMPTY_FILE, "detail": "zero bytes"}
    try:
        if is_playlist(path):
            return {"reason": PLAYLIST, "detail": "it names other files"}
        with av.open(str(path), options=OPEN_OPTIONS) as container:
            stream = select_stream(container)
            if stream is None:
                return {"reason": NO_VIDEO_STREAM, "detail": f"streams: {[s.type for s in container.streams]}"}
            check_frame(stream.codec_context.width, stream.codec_context.height)
            return {"reason": "", "detail": "", **_stream_metadata(container, stream)}
    except (FrameTooLarge, MemoryError) as error:
        return {"reason": FRAME_TOO_LARGE, "detail": f"{error}"[:300]}
    except FFmpegError as error:
        reason = NO_INDEX if is_mp4_without_index(path) else NOT_A_VIDEO
        return {"reason": reason, "detail": f"{type(error).__name__}: {error}"[:300]}


def _stream_metadata(container: Any, stream: Any) -> dict[str, Any]:
    duration = None
    if stream.duration is not None:
        duration = float(stream.duration * stream.time_base)
    elif container.duration is not None:
        duration = container.duration / 1e6  # in units of AV_TIME_BASE: microseconds
    rates = (stream.average_rate, stream.guessed_rate)
    rate = next(filter(None, rates if stream.duration or container.duration else rates[::-1]), None)
    size = stream.codec_context.width, stream.codec_context.height
    size, geometry = _first_frame(container, stream, size)
    width, height = geometry.upright_size(*size)
    check_frame(width, height)
    return {
        "codec": stream.codec_context.name,
        "width": width,
        "height": height,
        "fps": float(rate) if rate else None,
        "duration_s": duration,
        "n_frames": stream.frames or None,
        "rotation_deg": geometry.rotation_deg,
    }


def _first_frame(container: Any, stream: Any, size: tuple[int, int]) -> tuple[tuple[int, int], Geometry]:
    """Return (width, height) and geometry of the first frame; ``size`` and square pixels if none decodes."""
    from av.error import FFmpegError

    try:
        for frame in container.decode(stream):
            return (frame.width, frame.height), frame_geometry(frame, stream.sample_aspect_ratio)
    except FFmpegError:
        pass
    return size, Geometry()


def is_mp4_without_index(path: str | Path) -> bool:
    """Return True if the file consists of ISO base media boxes (ISO/IEC 14496-12) and has no ``moov`` box."""
    size = Path(path).stat().st_size
    kinds: list[bytes] = []
    with Path(path).open("rb") as stream:
        position = 0
        while position + 8 <= size and len(kinds) < 64:
            stream.seek(position)
            header = stream.read(16)
            length, kind = int.from_bytes(header[:4], "big"), header[4:8]
            if length == 1:  # the 64-bit length follows the kind
                length = int.from_bytes(header[8:16], "big")
            kinds.append(kind)
            if length < 8:  # 0: the box reaches to the end of the file; other values are not a box
                break
            position += length
    return bool(kinds) and kinds[0] in (b"ftyp", b"styp") and b"moov" not in kinds
