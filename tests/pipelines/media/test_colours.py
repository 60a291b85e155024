"""Colours of SDR video: the stated matrix is used; without one, BT.709 from 720 lines on, and BT.601 below."""

from __future__ import annotations

import subprocess

import imageio_ffmpeg
import numpy as np
import pytest

from pipelines.media.decord_reader import read_frames_by_decord
from pipelines.media.frame_reader import read_frames

YUV = (81.0, 90.0, 240.0)
"""Y, Cb, Cr of the frames, limited range: red by BT.601."""

KR_KB = {"bt601": (0.299, 0.114), "bt709": (0.2126, 0.0722)}


def rgb_of(matrix):
    """R, G, B by the definition of the matrix, 0 to 255."""
    kr, kb = KR_KB[matrix]
    y, pb, pr = (YUV[0] - 16) / 219, (YUV[1] - 128) / 224, (YUV[2] - 128) / 224
    r, b = y + 2 * (1 - kr) * pr, y + 2 * (1 - kb) * pb
    return np.clip(255 * np.array([r, (y - kr * r - kb * b) / (1 - kr - kb), b]), 0, 255)


def write_yuv(path, height, tagged):
    plane = np.repeat(np.uint8(YUV), (320 * height, 80 * height, 80 * height)).tobytes()
    tags = ("-x264-params", f"colormatrix={tagged}") if tagged else ()  # ffmpeg's own option would convert, too
    raw = ("-f", "rawvideo", "-pix_fmt", "yuv420p", "-s", f"320x{height}", "-i", "pipe:")
    coded = ("-c:v", "libx264", "-crf", "1", *tags, str(path))
    command = (imageio_ffmpeg.get_ffmpeg_exe(), "-y", "-loglevel", "error", *raw, *coded)
    subprocess.run(command, input=3 * plane, check=True)
    return path


@pytest.mark.parametrize(
    ("height", "tagged", "matrix"),
    [
        (720, "", "bt709"),
        (718, "", "bt601"),
        (720, "bt470bg", "bt601"),
        (718, "bt709", "bt709"),
    ],
)
@pytest.mark.parametrize("reader", [read_frames, read_frames_by_decord])
def test_red_is_the_red_of_its_matrix(tmp_path, reader, height, tagged, matrix):
    frames = list(reader(write_yuv(tmp_path / "red.mp4", height, tagged)))
    assert len(frames) == 3
    assert frames[1][2].reshape(-1, 3).mean(0) == pytest.approx(rgb_of(matrix), abs=3)
    other = rgb_of("bt601" if matrix == "bt709" else "bt709")
    assert np.abs(frames[1][2].reshape(-1, 3).mean(0) - other).max() > 15
