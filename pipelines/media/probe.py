"""What a video file says of itself: its container's metadata, by PyAV."""

from __future__ import annotations

from pathlib import Path
from typing import Any

EMPTY_FILE = "empty_file"
"""Zero bytes."""
NOT_A_VIDEO = "not_a_video"
"""No container that the decoder knows."""
NO_INDEX = "no_index"
"""An mp4 or mov whose ``moov`` box is missing: cut off while it was written or copied."""
NO_VIDEO_STREAM = "no_video_stream"
"""A container with sound or subtitles only."""


def probe_file(path: str | Path) -> dict[str, Any]:
    """Metadata of one local file; never raises for what is in it.

    Keys: ``reason`` (empty, or why the file is no video that can be read), ``detail`` (what the library said),
    ``codec``, ``width`` and ``height`` (pixels of the upright frame), ``fps`` (average, 1/s), ``duration_s``,
    ``n_frames`` (what the container promises, edit-list cuts included; None where it promises nothing) and
    ``rotation_deg`` (anticlockwise turn that makes the stored frame upright: 0, 90, 180 or 270).
    Raises OSError when the file itself cannot be reached.
    """
    import av
    from av.error import FFmpegError

    if Path(path).stat().st_size == 0:
        return {"reason": EMPTY_FILE, "detail": "zero bytes"}
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                return {"reason": NO_VIDEO_STREAM, "detail": f"streams: {[s.type for s in container.streams]}"}
            return {"reason": "", "detail": "", **_stream_facts(container)}
    except FFmpegError as error:
        reason = NO_INDEX if is_mp4_without_index(path) else NOT_A_VIDEO
        return {"reason": reason, "detail": f"{type(error).__name__}: {error}"[:300]}


def _stream_facts(container: Any) -> dict[str, Any]:
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
    """Degrees anticlockwise, from the first frame's display matrix; 0 when no frame decodes."""
    from av.error import FFmpegError

    try:
        for frame in container.decode(video=0):
            return round(frame.rotation / 90) % 4 * 90
    except FFmpegError:
        pass
    return 0


def is_mp4_without_index(path: str | Path) -> bool:
    """Whether the file is made of ISO base media boxes (ISO/IEC 14496-12) and has no ``moov`` among them."""
    size = Path(path).stat().st_size
    kinds: list[bytes] = []
    with Path(path).open("rb") as stream:
        position = 0
        while position + 8 <= size and len(kinds) < 64:
            stream.seek(position)
            header = stream.read(16)
            length, kind = int.from_bytes(header[:4], "big"), header[4:8]
            if length == 1:  # the length stands in 64 bits behind the kind
                length = int.from_bytes(header[8:16], "big")
            kinds.append(kind)
            if length < 8:  # 0: up to the end of the file; anything else is no box
                break
            position += length
    return bool(kinds) and kinds[0] in (b"ftyp", b"styp") and b"moov" not in kinds
