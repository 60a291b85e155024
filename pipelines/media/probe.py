"""Metadata of a video file's container, read by PyAV."""

from __future__ import annotations

from pathlib import Path
from typing import Any

EMPTY_FILE = "empty_file"
"""The file has zero bytes."""
NOT_A_VIDEO = "not_a_video"
"""The file is no container that the decoder knows."""
NO_INDEX = "no_index"
"""The file is an mp4 or mov whose ``moov`` box is missing: cut off while it was written or copied."""
NO_VIDEO_STREAM = "no_video_stream"
"""The container has sound or subtitles only."""


def probe_file(path: str | Path) -> dict[str, Any]:
    """Read the metadata of one local file; its content never raises.

    Args:
        path: A local file.

    Returns:
        ``reason`` (empty, or why the file is no readable video) and ``detail`` (the library's message). A video also
        has ``codec``, ``width`` and ``height`` (pixels of the upright frame), ``fps`` (average, 1/s), ``duration_s``,
        ``n_frames`` (promised by the container, edit-list cuts included; None where it promises nothing) and
        ``rotation_deg`` (anticlockwise turn that makes the stored frame upright: 0, 90, 180 or 270).

    Raises:
        OSError: The file itself cannot be reached.
    """
    import av
    from av.error import FFmpegError

    if Path(path).stat().st_size == 0:
        return {"reason": EMPTY_FILE, "detail": "zero bytes"}
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                return {"reason": NO_VIDEO_STREAM, "detail": f"streams: {[s.type for s in container.streams]}"}
            return {"reason": "", "detail": "", **_stream_metadata(container)}
    except FFmpegError as error:
        reason = NO_INDEX if is_mp4_without_index(path) else NOT_A_VIDEO
        return {"reason": reason, "detail": f"{type(error).__name__}: {error}"[:300]}


def _stream_metadata(container: Any) -> dict[str, Any]:
    stream = container.streams.video[0]
    rotation = _rotation(container)
    width, height = stream.codec_context.width, stream.codec_context.height
    if rotation % 180:
        width, height = height, width
    duration = None
    if stream.duration is not None:
        duration = float(stream.duration * stream.time_base)
    elif container.duration is not None:
        duration = container.duration / 1e6  # in AV_TIME_BASE units, microseconds
    return {
        "codec": stream.codec_context.name,
        "width": width,
        "height": height,
        "fps": float(stream.average_rate) if stream.average_rate else None,
        "duration_s": duration,
        "n_frames": stream.frames or None,
        "rotation_deg": rotation,
    }


def _rotation(container: Any) -> int:
    """Return degrees anticlockwise, from the first frame's display matrix; 0 when no frame decodes."""
    from av.error import FFmpegError

    try:
        for frame in container.decode(video=0):
            return round(frame.rotation / 90) % 4 * 90
    except FFmpegError:
        pass
    return 0


def is_mp4_without_index(path: str | Path) -> bool:
    """Return True when the file consists of ISO base media boxes (ISO/IEC 14496-12) and has no ``moov`` box."""
    size = Path(path).stat().st_size
    kinds: list[bytes] = []
    with Path(path).open("rb") as stream:
        position = 0
        while position + 8 <= size and len(kinds) < 64:
            stream.seek(position)
            header = stream.read(16)
            length, kind = int.from_bytes(header[:4], "big"), header[4:8]
            if length == 1:  # the length follows the kind in 64 bits
                length = int.from_bytes(header[8:16], "big")
            kinds.append(kind)
            if length < 8:  # 0: up to the end of the file; anything else is no box
                break
            position += length
    return bool(kinds) and kinds[0] in (b"ftyp", b"styp") and b"moov" not in kinds
