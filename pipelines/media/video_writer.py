"""Writing of videos (mp4, webm, gif) with ffmpeg (the binary in the package ``imageio-ffmpeg``)."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any

import ffmpeg
import imageio_ffmpeg
import numpy as np

VIDEO_FORMATS: dict[str, dict[str, str | int]] = {
    ".mp4": {
        "vcodec": "libx264",
        "pix_fmt": "yuv420p",
        "preset": "veryfast",
        "movflags": "+faststart",
        # with its lookahead in a thread, x264 gave other bytes in 1 of 9 calls under load; without, in 0 of 100
        "x264-params": "sync-lookahead=0",
    },
    ".webm": {"vcodec": "libvpx-vp9", "pix_fmt": "yuv420p", "deadline": "realtime", "cpu-used": 5, "video_bitrate": 0},
    ".gif": {},
}
"""Ending of a video's name → settings of ffmpeg for its format."""
_BT709 = {"colorspace": "bt709", "color_primaries": "bt709", "color_trc": "bt709"}
"""Colours that are stated in a video, so that players show the same ones."""


class VideoWriteError(RuntimeError):
    """Failure of ffmpeg; the message holds the last lines of its output."""


def write_video(path: str | Path, frames: Iterable[np.ndarray], fps: float, crf: int = 18) -> int:
    """Encode frames as a video: H.264, yuv420p, index at the start of the file; or as WebM (VP9) or GIF.

    If the height or width is odd, the last row or column is cut, because 4:2:0 needs even sizes. The write is atomic:
    ``path`` is created or replaced only after the file is complete.

    Args:
        path: The file, whose ending is one of ``VIDEO_FORMATS``; its folder is made if it does not exist.
        frames: (H, W, 3) uint8 RGB, all of one size.
        fps: Frames per second.
        crf: The encoder's constant rate factor, 0 (lossless) to 51; ignored for GIF.

    Returns:
        The number of frames.

    Raises:
        ValueError: There are no frames, a frame has another shape or type, the rate is not positive, or the ending is
            of no format.
        VideoWriteError: ffmpeg failed.
    """
    path = Path(path)
    if path.suffix.lower() not in VIDEO_FORMATS:
        raise ValueError(f"{path}: the ending is of no format that is written; it can be {', '.join(VIDEO_FORMATS)}")
    if not fps > 0:
        raise ValueError(f"fps is {fps}; it must be positive")
    iterator = iter(frames)
    first = next(iterator, None)
    if first is None:
        raise ValueError(f"no frames to write to {path}; a video needs at least one")
    height, width = _check_frame(first, first.shape, 0).shape[:2]
    if height < 2 or width < 2:
        raise ValueError(f"frames are {width} x {height} px; a video needs at least 2 x 2")
    path.parent.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(prefix=".video-", dir=path.parent) as folder,
        tempfile.TemporaryFile() as stderr,
    ):
        part = Path(folder) / f"video{path.suffix.lower()}"
        source = ffmpeg.input(
            "pipe:", format="rawvideo", pix_fmt="rgb24", s=f"{width}x{height}", framerate=repr(float(fps))
        ).filter("crop", width // 2 * 2, height // 2 * 2, 0, 0)
        command = (
            _output(source, part, crf).global_args("-loglevel", "error").compile(cmd=imageio_ffmpeg.get_ffmpeg_exe())
        )
        written = _encode(command, first, iterator, stderr, path)
        part.replace(path)
    return written


def _output(source: Any, part: Path, crf: int) -> Any:
    """Return the ffmpeg graph that encodes ``source`` as the format that the ending of ``part`` says."""
    settings = VIDEO_FORMATS[part.suffix]
    if part.suffix == ".gif":
        split = source.filter_multi_output("split")
        palette = split[1].filter("palettegen", stats_mode="single")
        return ffmpeg.filter([split[0], palette], "paletteuse", new=1).output(str(part))
    # RGB to limited-range BT.709
    scaled = source.filter("scale", out_color_matrix="bt709", out_range="tv")
    return scaled.output(str(part), crf=crf, threads=2, **settings, **_BT709)


def _encode(command: list[str], first: np.ndarray, rest: Iterable[np.ndarray], stderr: IO[bytes], path: Path) -> int:
    """Pipe the frames to ffmpeg and return their number; ``stderr`` is the file for ffmpeg's messages."""
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=stderr,
        start_new_session=True,  # Ctrl-C must reach only the caller, who may want to end the video at that point
    )
    assert process.stdin is not None
    written = 0
    try:
        try:
            process.stdin.write(np.ascontiguousarray(first).data)
            written = 1
            for frame in rest:
                process.stdin.write(np.ascontiguousarray(_check_frame(frame, first.shape, written)).data)
                written += 1
            process.stdin.close()
        except BrokenPipeError:
            pass  # ffmpeg died; its exit status and its messages are reported below
        code = process.wait()
    except BaseException:
        process.kill()
        process.wait()
        raise
    if code:
        stderr.seek(0)
        lines = stderr.read().decode(errors="replace").strip().splitlines()
        raise VideoWriteError(f"ffmpeg ended with status {code} writing {path}: {' | '.join(lines[-3:])}")
    return written


def _check_frame(frame: np.ndarray, shape: tuple[int, ...], index: int) -> np.ndarray:
    if frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype != np.uint8:
        raise ValueError(f"frame {index} is {frame.dtype} {frame.shape}; it must be uint8 (height, width, 3) RGB")
    if frame.shape != shape:
        raise ValueError(f"frame {index} is {frame.shape} where the first is {shape}; all must have one size")
    return frame
