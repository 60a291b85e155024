"""An avatar driven by a file, a pipe and a camera, and exported frame by frame."""

from __future__ import annotations

import io
import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import torch

from ffavatar_model.animation.backends import PlainBackend
from ffavatar_model.animation.graph_backend import CudaGraphBackend
from ffavatar_model.io.ply import read_ply
from flows.avatar.animate import IMAGE_PX, Latency, animate_video, choose_backend, open_animator
from flows.avatar.drivers import CameraDriver, open_driver
from flows.avatar.export import export_ply, export_sequence
from flows.avatar.y4m import read_frames, read_stream_header, write_frame, write_stream_header
from flows.cli import main
from infra.console import CallError
from pipelines.media.video_writer import write_video


def driver_and_avatar(path: Path) -> tuple[np.ndarray, np.ndarray]:
    with av.open(str(path)) as video:
        frames = np.stack([frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)]).astype(float)
    return frames[:, :, :IMAGE_PX], frames[:, :, IMAGE_PX:]


def piped(frames: list[np.ndarray], fps: float) -> bytes:
    stream = io.BytesIO()
    write_stream_header(stream, frames[0].shape[1], frames[0].shape[0], fps)
    for frame in frames:
        write_frame(stream, frame)
    return stream.getvalue()


def test_every_frame_of_a_file_has_its_picture(performer, tmp_path: Path):
    latency = Latency()
    n = animate_video(performer.avatar, performer.driver, tmp_path / "a.mp4", latency=latency)
    driver, avatar = driver_and_avatar(tmp_path / "a.mp4")
    assert n == len(performer.frames) == len(driver) == len(latency.seconds)
    assert "ms a frame" in str(latency)
    moved = np.abs(np.diff(avatar, axis=0)).mean((1, 2, 3))
    assert moved.min() > 0.05, "rest at first, where no face is seen; then each frame moves it"
    assert driver[0].std() < 3 < driver[1].std()


def test_a_pipe_in_and_a_pipe_out_hold_nothing_back(performer):
    """The image of a frame comes out before the next frame goes in."""
    command = [sys.executable, "-m", "flows.cli", "animate", str(performer.avatar), "--driver", "-", "--smooth"]
    command += ["-o", "-"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdin and process.stdout and process.stderr
    killer = threading.Timer(240, process.kill)
    killer.start()
    try:
        for i, frame in enumerate(performer.frames[:3]):
            data = piped([frame], performer.fps)
            process.stdin.write(data if i == 0 else data[data.index(b"FRAME") :])
            process.stdin.flush()
            if i == 0:
                header = read_stream_header(process.stdout)
                assert (header.width, header.height, header.fps) == (2 * IMAGE_PX, IMAGE_PX, performer.fps)
            got = next(read_frames(process.stdout, header))
            assert got.shape == (IMAGE_PX, 2 * IMAGE_PX, 3)
        process.stdin.close()
        assert process.stdout.read() == b"" and process.wait(60) == 0
        said = process.stderr.read().decode()
        assert "3 frames" in said and "ms a frame" in said
    finally:
        killer.cancel()
        process.kill()
        process.wait()


class InterruptedAtThree(list[float]):
    """Ctrl-C when the third image is made: at a time of the clock it could come before anybody listens for it."""

    def append(self, seconds: float) -> None:
        super().append(seconds)
        if len(self) == 3:
            os.kill(os.getpid(), signal.SIGINT)


def test_a_camera_gives_its_newest_frame_and_its_video_is_whole_after_ctrl_c(
    performer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A device that never ends stands for the camera: there is none on a test machine. No clock decides anything."""

    class Camera:
        reads = 0
        images = tuple(np.full((8, 8, 3), value, np.uint8) for value in range(256))

        def __init__(self, index: int) -> None:
            assert index == 7

        def read(self) -> tuple[bool, np.ndarray]:
            time.sleep(0.005)
            Camera.reads += 1
            return True, Camera.images[Camera.reads % len(Camera.images)]

        def isOpened(self) -> bool:
            return True

        def get(self, _: int) -> float:
            return 25.0

        def release(self) -> None:
            pass

    monkeypatch.setattr(cv2, "VideoCapture", Camera)
    driver = open_driver("7")
    assert isinstance(driver, CameraDriver) and driver.fps == 25
    frames, times = driver.frames(), []
    for _ in range(5):
        until = Camera.reads + 5
        while Camera.reads < until:  # the work on a frame, as long as it takes
            time.sleep(0.002)
        frame = next(frames)
        times.append(frame.time_s)
        # The newest then is the last that was read, or the one before while it is being handed over.
        assert (int(frame.rgb[0, 0, 0]) - (until - 1)) % 256 < 128, "what came meanwhile is passed over"
    assert (np.diff(times) > 0).all()
    driver.close()
    assert next(frames, None) is None

    Camera.images = tuple(np.ascontiguousarray(frame[:, :, ::-1]) for frame in performer.frames[1:])
    latency = Latency(InterruptedAtThree())
    n = animate_video(performer.avatar, "7", tmp_path / "live.mp4", latency=latency)
    assert n >= 3 and len(driver_and_avatar(tmp_path / "live.mp4")[0]) == n


@pytest.mark.parametrize(
    ("driver", "named"),
    [
        ("nowhere.mp4", "no such file"),
        ("text.mp4", "not a video"),
        ("list.mp4", "playlist"),
        ("grey.mp4", "shows no face"),
    ],
)
def test_a_driver_that_cannot_be_used_is_named_and_nothing_is_left(driver: str, named: str, performer, tmp_path: Path):
    (tmp_path / "text.mp4").write_text("a letter\n" * 99)
    (tmp_path / "list.mp4").write_text("#EXTM3U\n#EXTINF:1.0,\ngrey.mp4\n")
    write_video(tmp_path / "grey.mp4", [np.full((64, 64, 3), 99, np.uint8)] * 3, 25)
    for call, out in ((animate_video, "out.mp4"), (export_sequence, "out")):
        with pytest.raises(CallError, match=named) as error:
            call(performer.avatar, str(tmp_path / driver), tmp_path / out)
        assert driver in str(error.value)
    assert {path.name for path in tmp_path.iterdir()} == {"text.mp4", "list.mp4", "grey.mp4"}


def test_the_command_says_how_large_the_page_is(performer, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    page = tmp_path / "page.html"
    main(["export", str(performer.avatar), "--html", str(page)])
    assert f"{page.name}: {page.stat().st_size / 1e6:.1f} MB" in capsys.readouterr().out.replace("\n", "")


def test_the_plain_backend_says_why_it_was_taken(performer):
    backend = open_animator(performer.avatar).backend
    assert isinstance(backend, PlainBackend) == bool(backend.fallback_reason) == (not torch.cuda.is_available())
    assert choose_backend(torch.device("cuda")) is CudaGraphBackend


def test_no_camera_is_named(tmp_path: Path):
    with pytest.raises(CallError, match="no camera of this index"):
        open_driver("63")


def test_a_driven_sequence_is_one_ply_a_frame(performer, tmp_path: Path):
    n = export_sequence(performer.avatar, str(performer.driver), tmp_path / "frames")
    files = sorted((tmp_path / "frames").iterdir())
    assert [path.name for path in files] == [f"{i:06d}.ply" for i in range(len(performer.frames))] and n == len(files)
    export_ply(performer.avatar, tmp_path / "rest.ply")
    rest, first, *later = (read_ply(path) for path in (tmp_path / "rest.ply", *files))
    # Nothing moves the head before the first face: it is at rest, as a lens sees it that looks from a little above.
    assert (rest[0] - first[0]).norm(dim=-1).max() < 0.004
    alike = (rest[1] * first[1]).sum(-1).abs()
    assert alike.min() > 0.9999
    for before, after in itertools.pairwise(later):
        assert (before[0] - after[0]).norm(dim=-1).mean() > 1e-4
        for a, b in zip(before[2:], after[2:], strict=True):
            assert torch.equal(a, b), "scales, opacities and colours stay"
    with pytest.raises(CallError, match="holds something already"):
        export_sequence(performer.avatar, str(performer.driver), tmp_path / "frames")
