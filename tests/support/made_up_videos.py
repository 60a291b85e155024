"""Makes videos: whole ones, and ones that are broken in the ways that real ones are."""

from __future__ import annotations

import subprocess
from fractions import Fraction
from pathlib import Path

import av
import imageio_ffmpeg
import numpy as np

from pipelines.media.video_writer import write_video

N_FRAMES = 60


def moving_square(n: int = N_FRAMES, height: int = 96, width: int = 160) -> list[np.ndarray]:
    """Frames whose number can be read off: a bright square moves two pixels a frame over a soft gradient."""
    rows, columns = np.mgrid[:height, :width]
    ground = np.stack([columns * 255 // width, rows * 255 // height, np.full_like(rows, 90)], axis=-1).astype(np.uint8)
    frames = []
    for i in range(n):
        frame = ground.copy()
        frame[8:24, 2 * i : 2 * i + 16] = (255, 255, 255)
        frames.append(frame)
    return frames


def number_of(frame: np.ndarray) -> int:
    """The number that ``moving_square`` drew into a frame."""
    row = frame[10:22].astype(int).sum(axis=(0, 2))
    return round((np.flatnonzero(row > 0.9 * 12 * 3 * 255).mean() - 7.5) / 2)


def _turned(whole: Path, rotated: Path) -> None:
    ffmpeg = imageio_ffmpeg.get_ffmpeg_exe()
    arguments = ["-display_rotation", "90", "-i", str(whole), "-c", "copy", str(rotated)]
    subprocess.run([ffmpeg, "-loglevel", "error", *arguments], check=True)


def packets(path: Path) -> list[tuple[int, int]]:
    """(position, size) in the file of each video packet, in decoding order."""
    with av.open(str(path)) as container:
        return [(p.pos, p.size) for p in container.demux(video=0) if p.size]


def _broken(whole: Path, broken: Path) -> None:
    """Packets 20 to 24 hold noise."""
    data = bytearray(whole.read_bytes())
    noise = np.random.default_rng(0)
    for position, size in packets(whole)[20:25]:
        data[position : position + size] = noise.integers(0, 256, size, dtype=np.uint8).tobytes()
    broken.write_bytes(data)


VFR_TIMES_MS = np.cumsum([0, *np.random.default_rng(1).choice([40, 80, 200], N_FRAMES - 1)]).tolist()


def _variable(path: Path) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 160, 96, "yuv420p"
        stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        for pixels, time_ms in zip(moving_square(), VFR_TIMES_MS, strict=True):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = time_ms, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def _sound(path: Path) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 4096), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 44100
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def make_videos(folder: Path) -> None:
    """whole, rotated, vfr, truncated, broken, noindex, empty, text and sound, ``.mp4`` each."""
    whole = folder / "whole.mp4"
    write_video(whole, moving_square(), 25)
    data = whole.read_bytes()
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "text.mp4").write_text("this is no video\n" * 50)
    position, size = packets(whole)[40]
    (folder / "truncated.mp4").write_bytes(data[: position + size // 2])
    moov = data.index(b"moov") - 4
    (folder / "noindex.mp4").write_bytes(data[:moov] + data[moov + int.from_bytes(data[moov : moov + 4], "big") :])
    _turned(whole, folder / "rotated.mp4")
    _broken(whole, folder / "broken.mp4")
    _variable(folder / "vfr.mp4")
    _sound(folder / "sound.mp4")
