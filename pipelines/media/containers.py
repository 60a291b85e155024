"""Container formats that may be opened, known by a file's bytes; a file that names other files is refused."""

from __future__ import annotations

import re
from pathlib import Path

NOT_A_VIDEO = "not_a_video"
"""Reason: the file is in none of the container formats in ``FORMATS``."""
PLAYLIST = "playlist"
"""Reason: the file names other files instead of holding frames (HLS, DASH, concat script, SDP and the like)."""
FRAME_TOO_LARGE = "frame_too_large"
"""Reason: a frame has more than ``MAX_FRAME_PIXELS`` pixels, or does not fit the memory of a decoder's process."""

MAX_FRAME_PIXELS = 1 << 26
"""Largest number of pixels of a frame: 8192 × 8192."""

FORMATS = (
    *("mov", "mp4", "m4a", "3gp", "3g2", "mj2", "matroska", "webm", "avi", "flv", "live_flv", "asf", "mpegts", "mpeg"),
    *("ogg", "mxf", "nut", "dv", "rm", "wtv", "gif", "ivf", "obu", "h264", "hevc", "m4v", "mpegvideo", "yuv4mpegpipe"),
)
"""FFmpeg's names of the formats that hold their frames themselves. No format that opens other files is among them."""

OPEN_OPTIONS = {"format_whitelist": ",".join(FORMATS), "protocol_whitelist": "file"}
"""Options of every ``av.open``: FFmpeg refuses other formats after it has looked at the bytes, and opens only files."""

_HEAD_BYTES = 1 << 16

_PLAYLIST_START = re.compile(
    rb"#extm3u|ffconcat|file\s+\S|v=0[\r\n]|\[(?:playlist|reference)\]|rtsptext|# vobsub|<asx|<smil|"
    rb"<\?xml.{0,4096}?<(?:\w+:)?(?:mpd|smoothstreamingmedia|smil|playlist|compositionplaylist|manifest)\b|<mpd\b|<smoothstreamingmedia\b",
    re.DOTALL | re.IGNORECASE,
)


class ContainerRefused(ValueError):
    """Error for a file that is not opened; ``reason`` is ``PLAYLIST`` or ``NOT_A_VIDEO``."""

    def __init__(self, path: str | Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.reason = reason


class FrameTooLarge(ValueError):
    """Error for a frame of more than ``MAX_FRAME_PIXELS`` pixels."""


def check_frame(width: int, height: int) -> None:
    """Raise if a frame is too large.

    Args:
        width: Width in pixels.
        height: Height in pixels.

    Raises:
        FrameTooLarge: The frame has more than ``MAX_FRAME_PIXELS`` pixels.
    """
    if width * height > MAX_FRAME_PIXELS:
        raise FrameTooLarge(f"a frame of {width} x {height} pixels; at most {MAX_FRAME_PIXELS} are decoded")


def is_playlist(path: str | Path) -> bool:
    """Return True if a file begins like a text that names other files to play.

    Args:
        path: A local file; its name does not matter.
    """
    with Path(path).open("rb") as stream:
        head = stream.read(_HEAD_BYTES)
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        head = head.decode("utf-16", "replace").encode()
    return _PLAYLIST_START.match(head.removeprefix(b"\xef\xbb\xbf").lstrip(b" \t\r\n\0")) is not None


def check_container(path: str | Path) -> None:
    """Raise unless a file is in a container format that may be opened.

    A decoder without an allow-list of its own is called only afterwards.

    Args:
        path: A local file.

    Raises:
        ContainerRefused: The file names other files, or FFmpeg finds none of ``FORMATS`` in it.
    """
    import av
    from av.error import FFmpegError

    if is_playlist(path):
        raise ContainerRefused(path, PLAYLIST)
    try:
        with av.open(str(path), options=OPEN_OPTIONS):
            pass
    except FFmpegError as error:
        raise ContainerRefused(path, NOT_A_VIDEO) from error
