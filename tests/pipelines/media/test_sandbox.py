"""The process that decodes a file reads this file and nothing else, reaches nobody, knows no secret and has a bound."""

from __future__ import annotations

import ctypes
import faulthandler
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipelines.media.decoder import ProcessDecoder
from pipelines.media.sandbox import load_confinement, measure_confinement, run_confined, worker_environment
from pipelines.media.video_writer import write_video
from tests.support.made_up_videos import moving_square

PARTS = {part.name: part for part in measure_confinement()}
CONFINED = pytest.mark.skipif(
    not all(part.in_force for part in PARTS.values()), reason="; ".join(p.reason for p in PARTS.values())
)


def outcome(path: Path, action) -> str:
    """Run an action in a confined process, and return the name of its error, or "done"."""
    load_confinement()
    reader, writer = os.pipe()

    def work() -> None:
        try:
            action()
            os.write(writer, b"done")
        except BaseException as error:
            os.write(writer, type(error).__name__.encode())

    status = run_confined(path, work, 1 << 29)
    os.close(writer)
    with os.fdopen(reader, "rb") as stream:
        return stream.read().decode() or f"status {status}"


@CONFINED
def test_one_file_is_read_and_nothing_else(tmp_path):
    (tmp_path / "video").write_bytes(b"video")
    (tmp_path / "other").write_bytes(b"other")
    (tmp_path / "link").symlink_to(tmp_path / "other")
    path = tmp_path / "video"
    assert outcome(path, lambda: path.read_bytes()) == "done"
    refused = {
        "a sibling": lambda: (tmp_path / "other").read_bytes(),
        "through a link": lambda: (tmp_path / "link").read_bytes(),
        "the machine's files": lambda: Path("/etc/passwd").read_bytes(),
        "the project": lambda: (Path(__file__).parents[3] / "pyproject.toml").read_bytes(),
        "another process's environment": lambda: Path(f"/proc/{os.getppid()}/environ").read_bytes(),
        "a folder": lambda: list(tmp_path.iterdir()),
        "writing": lambda: path.write_bytes(b"x"),
        "a new file": lambda: (tmp_path / "new").write_bytes(b"x"),
        "removing": path.unlink,
        "renaming": lambda: path.rename(tmp_path / "renamed"),
        "a device": lambda: Path("/dev/null").write_bytes(b"x"),
    }
    assert {name: outcome(path, action) for name, action in refused.items()} == dict.fromkeys(
        refused, "PermissionError"
    )
    assert path.read_bytes() == b"video" and not (tmp_path / "new").exists()


@CONFINED
def test_nobody_is_reached_and_nothing_started(tmp_path):
    path = tmp_path / "video"
    path.write_bytes(b"")
    refused = {
        "tcp": lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM),
        "udp": lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM),
        "unix": lambda: socket.socket(socket.AF_UNIX),
        "a pair": socket.socketpair,
        "a program": lambda: os.execv(sys.executable, [sys.executable, "-c", ""]),
        "a signal": lambda: os.kill(os.getppid(), 0),
    }
    assert {name: outcome(path, action) for name, action in refused.items()} == dict.fromkeys(
        refused, "PermissionError"
    )


def test_memory_is_bounded(tmp_path):
    assert outcome(tmp_path, lambda: bytearray(1 << 28)) == "done"
    assert outcome(tmp_path, lambda: bytearray(1 << 30)) == "MemoryError"


def test_an_ended_process_has_its_status(tmp_path):
    assert run_confined(tmp_path, lambda: None) == 0
    assert run_confined(tmp_path, lambda: 1 // 0) == 1
    assert run_confined(tmp_path, lambda: (faulthandler.disable(), ctypes.string_at(0))) == 128 + 11


def test_the_environment_holds_no_secret(monkeypatch):
    secrets = {name: f"secret-{name}" for name in ("AWS_SECRET_ACCESS_KEY", "HF_TOKEN", "FFAVATAR_X", "HTTPS_PROXY")}
    for name, value in secrets.items():
        monkeypatch.setenv(name, value)
    assert not set(secrets) & set(worker_environment("x"))
    decoder = ProcessDecoder()
    decoder.probe(Path(__file__))
    assert decoder._process is not None
    environment = Path(f"/proc/{decoder._process.pid}/environ").read_bytes()
    assert b"PYTHONPATH=" in environment and b"secret-" not in environment
    decoder.close()


@CONFINED
def test_a_file_of_any_name_is_decoded(tmp_path):
    for name in (b"caf\xe9.mp4", "ls\u2028sep.mp4".encode(), b"new\nline.mp4", b"%d.mp4", b"s3:__odd.mp4"):
        path = tmp_path / os.fsdecode(name)
        write_video(tmp_path / "x.mp4", moving_square(3), 25)
        (tmp_path / "x.mp4").rename(path)
        decoder = ProcessDecoder()
        assert decoder.probe(path)["width"] == 160
        assert len(list(decoder.frames(path))) == 3, name
        decoder.close()


def test_the_decoding_process_ends_with_its_parent(tmp_path):
    code = (
        "import sys, time; from pipelines.media.sandbox import run_confined;"
        f"run_confined({str(tmp_path)!r}, lambda: (print(__import__('os').getpid(), flush=True), time.sleep(60)))"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    while Path(f"/proc/{child}").exists() and "Z" not in Path(f"/proc/{child}/stat").read_text().split(")")[1][:3]:
        time.sleep(0.05)  # the test's own limit ends a process that stays
