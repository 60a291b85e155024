"""Raw frames through a pipe: held against ffmpeg, which reads what we write and writes what we read."""

from __future__ import annotations

import io
import subprocess

import imageio_ffmpeg
import numpy as np
import pytest

from flows.avatar.y4m import read_frames, read_stream_header, write_frame, write_stream_header

FFMPEG = imageio_ffmpeg.get_ffmpeg_exe()


def random_frames(n: int = 3, height: int = 46, width: int = 62) -> list[np.ndarray]:
    """Smooth colour fields: what chroma subsampling takes from them is little."""
    y, x = np.mgrid[:height, :width] / 60
    return [(np.stack([x, y, 0.5 + 0.4 * np.sin(x + y + i)], -1).clip(0, 1) * 255).astype(np.uint8) for i in range(n)]


@pytest.mark.parametrize(
    ("pixels", "tolerance"), [("yuv420p", 6), ("yuv422p", 6), ("yuv444p", 3), ("yuvj420p", 6), ("gray", None)]
)
def test_what_ffmpeg_writes_is_read(pixels: str, tolerance: int | None):
    frames = random_frames()
    command = [FFMPEG, "-loglevel", "error", "-f", "rawvideo", "-pix_fmt", "rgb24", "-s", "62x46", "-r", "30000/1001"]
    command += ["-i", "-", "-sws_flags", "accurate_rnd+full_chroma_int", "-pix_fmt", pixels, "-strict", "-1"]
    raw = b"".join(frame.tobytes() for frame in frames)
    done = subprocess.run([*command, "-f", "yuv4mpegpipe", "-"], input=raw, capture_output=True, check=True)
    stream = io.BytesIO(done.stdout)
    header = read_stream_header(stream)
    assert (header.width, header.height) == (62, 46) and header.fps == pytest.approx(29.97, abs=0.001)
    got = list(read_frames(stream, header))
    assert len(got) == 3
    for a, b in zip(frames, got, strict=True):
        if tolerance is None:
            b = b.astype(int)
            assert (b[..., 0] == b[..., 1]).all() and np.abs(b[..., 0] - a @ [0.299, 0.587, 0.114]).max() < 4
        else:
            assert np.abs(a.astype(int) - b).max() <= tolerance


def test_what_we_write_is_read_by_ffmpeg_and_by_us():
    frames, stream = random_frames(), io.BytesIO()
    write_stream_header(stream, 62, 46, 12.5)
    for frame in frames:
        write_frame(stream, frame)
    command = [FFMPEG, "-loglevel", "error", "-f", "yuv4mpegpipe", "-i", "-", "-pix_fmt", "rgb24", "-f", "rawvideo"]
    done = subprocess.run([*command, "-"], input=stream.getvalue(), capture_output=True, check=True)
    theirs = np.frombuffer(done.stdout, np.uint8).reshape(3, 46, 62, 3)
    stream.seek(0)
    header = read_stream_header(stream)
    assert header.fps == 12.5
    for frame, other, own in zip(frames, theirs, read_frames(stream, header), strict=True):
        assert np.abs(frame.astype(int) - own).max() <= 2
        assert np.abs(frame.astype(int) - other).max() <= 3


@pytest.mark.parametrize(
    ("data", "named"),
    [
        (b"", "no YUV4MPEG2"),
        (b"\x00\x00\x00 ftypisom" * 200, "no YUV4MPEG2"),
        (b"YUV4MPEG2 W10\n", "W10"),
        (b"YUV4MPEG2 W10 H-3 F25:1\n", "H-3"),
        (b"YUV4MPEG2 W10 H10 F0:0\n", "F0:0"),
        (b"YUV4MPEG2 W10 H10 F25:1 C420p10\n", "C420p10"),
        (b"YUV4MPEG2 W999999999 H999999999 F25:1\n", "W999999999"),
    ],
)
def test_other_streams_are_named_with_the_way_out(data: bytes, named: str):
    with pytest.raises(ValueError) as error:
        read_stream_header(io.BytesIO(data))
    assert named in str(error.value) and "ffmpeg -i" in str(error.value) and "\n" not in str(error.value)


def test_a_stream_that_ends_within_a_frame_is_said_to():
    stream = io.BytesIO()
    write_stream_header(stream, 62, 46, 25)
    for frame in random_frames(2):
        write_frame(stream, frame)
    cut = io.BytesIO(stream.getvalue()[:-10])
    frames = read_frames(cut, read_stream_header(cut))
    next(frames)
    with pytest.raises(ValueError, match="ends within a frame"):
        next(frames)
    noise = io.BytesIO(stream.getvalue().replace(b"FRAME\n", b"FRAMX\n"))
    with pytest.raises(ValueError, match="where a frame begins"):
        next(read_frames(noise, read_stream_header(noise)))
