"""Videos of the kinds that users bring: other containers, codecs, streams and geometries, all of ``moving_square``."""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path

import imageio_ffmpeg

X264 = ("-c:v", "libx264", "-preset", "veryfast", "-crf", "14", "-pix_fmt", "yuv420p")
GOP = ("-g", "20", "-bf", "2", "-sc_threshold", "0")

ENCODED: dict[str, tuple[str, ...]] = {
    "plain.ts": (*X264, *GOP),
    "plain.m2ts": (*X264, *GOP),
    "live.mkv": (*X264, *GOP, "-f", "matroska", "-live", "1"),
    "hybrid.mp4": (*X264, *GOP, "-movflags", "frag_keyframe"),
    "fragmented.mp4": (*X264, *GOP, "-movflags", "frag_keyframe+empty_moov"),
    "raw.h264": (*X264, *GOP),
    "hevc10.mp4": (
        "-c:v",
        "libx265",
        "-preset",
        "ultrafast",
        "-x265-params",
        "log-level=error",
        "-pix_fmt",
        "yuv420p10le",
    ),
    "program.mpg": ("-c:v", "mpeg2video", "-q:v", "2", "-g", "15", "-bf", "2"),
    "program.vob": ("-c:v", "mpeg2video", "-q:v", "2", "-g", "15", "-bf", "2"),
    "bframes.avi": ("-c:v", "mpeg4", "-q:v", "2", "-g", "20", "-bf", "2", "-vtag", "XVID"),
    "motion.avi": ("-c:v", "mjpeg", "-q:v", "2"),
    "flash.flv": ("-c:v", "flv", "-q:v", "2"),
    "windows.wmv": ("-c:v", "wmv2", "-q:v", "2"),
    "altref.webm": ("-c:v", "libvpx", "-b:v", "1M", "-auto-alt-ref", "1", "-lag-in-frames", "16", "-cpu-used", "5"),
    "vp9.webm": ("-c:v", "libvpx-vp9", "-b:v", "1M", "-deadline", "realtime", "-cpu-used", "8"),
    "late.mkv": (*X264, *GOP, "-output_ts_offset", "100"),
    "wide.mp4": ("-vf", "scale=80:96,setsar=2/1", *X264),
    "flat.mkv": ("-vf", "scale=160:48,setsar=1/2", *X264),
}
"""File name to the arguments of ffmpeg that encode it; every one shows all frames, upright, at 160 × 96."""

MATRICES: dict[str, tuple[str, tuple[int, int, int, int]]] = {
    "rot90": ("transpose=2", (0, 1, -1, 0)),
    "rot180": ("hflip,vflip", (-1, 0, 0, -1)),
    "rot270": ("transpose=1", (0, -1, 1, 0)),
    "mirror_x": ("hflip", (-1, 0, 0, 1)),
    "mirror_y": ("vflip", (1, 0, 0, -1)),
    "transposed": ("transpose=0", (0, 1, 1, 0)),
    "transverse": ("transpose=3", (0, -1, -1, 0)),
}
"""Name to the filter that turns the stored frames, and to the display matrix (a, b, c, d) that turns them back."""


def ffmpeg(*arguments: object) -> None:
    """Run the ffmpeg of the package ``imageio-ffmpeg``."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", "-nostdin", *map(str, arguments)]
    subprocess.run(command, check=True)


def set_matrix(path: Path, a: int, b: int, c: int, d: int) -> None:
    """Write the display matrix of an mp4's first track."""
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4
    at += 40 if data[at] == 0 else 52
    data[at : at + 36] = struct.pack(">9i", a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30)
    path.write_bytes(data)


def make_turned(whole: Path, folder: Path) -> None:
    """Write one mp4 for each of ``MATRICES``."""
    for name, (stored, matrix) in MATRICES.items():
        ffmpeg("-i", whole, "-vf", stored, *X264, folder / f"{name}.mp4")
        set_matrix(folder / f"{name}.mp4", *matrix)


def make_streams(whole: Path, folder: Path) -> None:
    """Write files with several streams: covers, a smaller video, and sound with a cover."""
    cover, pattern = folder / "cover.png", ("-f", "lavfi", "-t", "2.4", "-i", "testsrc2=s=64x48:r=25")
    ffmpeg("-f", "lavfi", "-i", "testsrc2=s=300x300", "-frames:v", "1", cover)
    attached = ("-c", "copy", "-disposition:v:1", "attached_pic")
    ffmpeg("-i", whole, "-i", cover, "-map", "0:v", "-map", "1:v", *attached, folder / "cover_second.mp4")
    ffmpeg(*pattern, "-i", whole, "-map", "0", "-map", "1", *X264, folder / "small_first.mp4")
    ffmpeg("-i", whole, *pattern, "-map", "0", "-map", "1", *X264, folder / "small_second.mp4")
    ffmpeg("-i", whole, "-attach", cover, "-metadata:s:t", "mimetype=image/png", "-c", "copy", folder / "attached.mkv")
    sound = (
        "-f",
        "lavfi",
        "-t",
        "2",
        "-i",
        "sine",
        "-i",
        cover,
        "-map",
        "0:a",
        "-map",
        "1:v",
        "-c:a",
        "aac",
        "-c:v",
        "copy",
    )
    ffmpeg(*sound, "-disposition:v:0", "attached_pic", folder / "song.mp4")
    _put_cover_first(folder / "cover_second.mp4", folder / "cover_first.mp4")


def _put_cover_first(path: Path, target: Path) -> None:
    """Copy an mp4 with the box of its cover (``udta``) before its tracks, so that the cover is stream 0."""
    data = path.read_bytes()
    moov = next(box for box in _boxes(data, 0, len(data)) if box[0] == b"moov")
    inner = _boxes(data, moov[1] + 8, moov[1] + moov[2])
    inner.sort(key=lambda box: (box[0] != b"mvhd", box[0] != b"udta"))
    body = b"".join(data[at : at + size] for _, at, size in inner)
    target.write_bytes(data[: moov[1] + 8] + body + data[moov[1] + moov[2] :])


def _boxes(data: bytes, at: int, end: int) -> list[tuple[bytes, int, int]]:
    """(kind, position, size) of each box in a range of an mp4."""
    found = []
    while at < end:
        size = int.from_bytes(data[at : at + 4], "big")
        found.append((data[at + 4 : at + 8], at, size))
        at += size
    return found
