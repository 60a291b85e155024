"""The server of local pages: what it refuses, connections that hang, and event streams."""

from __future__ import annotations

import http.client
import itertools
import re
import socket
import stat
import subprocess
import sys
import threading
import time
import webbrowser
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from infra import local_app
from infra.local_app import LocalApp, LocalServer, iterate_in_thread, opened_in_browser


@pytest.fixture
def items() -> list[int]:
    """Numbers of the events that were read from the source."""
    return []


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, items: list[int]) -> Iterator[LocalServer]:
    """A page, an endless event stream, and a route that raises; connections may idle for a second."""
    monkeypatch.setattr(local_app, "IDLE_S", 1.0)

    def endless() -> Iterator[str]:
        for number in itertools.count():
            time.sleep(0.2)
            items.append(number)
            yield f"data: {number}\n\n"

    def broken(request: Request) -> Response:
        raise KeyError("a bug")

    routes = [
        Route("/", lambda request: PlainTextResponse("the page")),
        Route("/events", lambda request: StreamingResponse(iterate_in_thread(endless()))),
        Route("/broken", broken),
    ]
    with LocalServer(LocalApp(routes=routes)) as running:
        thread = threading.Thread(target=running.serve, daemon=True)
        thread.start()
        yield running
        running.stop()
        thread.join(30)
        assert not thread.is_alive()


def open_page(server: LocalServer, path: str, method: str = "GET") -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection(server.host, server.port, timeout=30)
    connection.request(method, f"/{server.key}/{path}")
    return connection.getresponse()


def exchange(server: LocalServer, data: bytes) -> bytes:
    """Send bytes and read until the server closes the connection."""
    with socket.create_connection((server.host, server.port), timeout=30) as connection:
        connection.sendall(data)
        return b"".join(iter(lambda: connection.recv(4096), b""))


@pytest.mark.parametrize(("path", "method", "status"), [("", "GET", 200), ("no", "GET", 404), ("", "PUT", 501)])
def test_every_answer_has_the_security_headers(server, path, method, status):
    answer = open_page(server, path, method)
    assert answer.status == status and answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["X-Content-Type-Options"] == "nosniff" and answer.headers["Server"] == "ffavatar"
    assert answer.headers["Connection"] == (None if status == 200 else "close")


def test_a_route_that_raises_is_answered_and_logged_without_the_key(server, caplog):
    assert open_page(server, "broken").status == 500
    deadline = time.monotonic() + 20
    while "a bug" not in caplog.text and time.monotonic() < deadline:  # the answer goes out before the log line
        time.sleep(0.05)
    assert "a bug" in caplog.text and server.key not in caplog.text


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"no request\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\n\r\n", b"421"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", b"421"),
    ],
)
def test_malformed_requests_are_refused(server, data, status):
    answer = exchange(server, data)
    assert answer.startswith(b"HTTP/1.1 " + status) and b"no-store" in answer


def test_connections_that_hang_are_closed(server):
    start = time.monotonic()
    assert exchange(server, b"") == b"" and exchange(server, b"GET / HT") == b""
    head = f"POST /{server.key}/ HTTP/1.1\r\nHost: {server.host}:{server.port}\r\nContent-Type: application/json\r\n"
    assert exchange(server, f"{head}Content-Length: 9\r\n\r\nhalf".encode()).startswith(b"HTTP/1.1 408")
    chunked = f"{head}Content-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert exchange(server, chunked.encode()).startswith((b"HTTP/1.1 413", b"HTTP/1.1 400"))
    assert time.monotonic() - start < 20


def test_the_longest_idle_connection_makes_room_for_a_new_one(server, monkeypatch):
    monkeypatch.setattr(local_app, "IDLE_S", 30.0)
    monkeypatch.setattr(local_app, "MAX_CONNECTIONS", 5)
    idle = [socket.create_connection((server.host, server.port), timeout=20) for _ in range(12)]
    for _ in range(3):
        answer = open_page(server, "")
        assert answer.status == 200 and answer.read() == b"the page"
    assert [connection.recv(1) for connection in idle[:6]] == [b""] * 6, "closed by the server"
    for connection in idle:
        connection.close()


def test_the_key_is_in_no_process_arguments(monkeypatch):
    """The browser gets the path of a file that only the user can read, and that leads to the page."""
    program = "import sys, time; print(sys.argv[1:], flush=True); time.sleep(60)"
    started: list[subprocess.Popen[str]] = []

    def start(url: str) -> bool:
        started.append(subprocess.Popen([sys.executable, "-c", program, url], stdout=subprocess.PIPE, text=True))
        return True

    monkeypatch.setattr(webbrowser, "open", start)
    with opened_in_browser("http://127.0.0.1:1/the-secret-key/"):
        given = started[0].stdout.readline()
        commands = [process / "cmdline" for process in Path("/proc").iterdir() if process.name.isdecimal()]
        assert not [path for path in commands if path.exists() and b"the-secret-key" in path.read_bytes()]
        (file,) = (Path(url.removeprefix("file://")) for url in re.findall(r"file://[^']+", given))
        assert "http://127.0.0.1:1/the-secret-key/" in file.read_text()
        assert stat.S_IMODE(file.stat().st_mode) == 0o600 and stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert not file.exists()
    started[0].kill()
    started[0].wait()


def test_an_event_stream_outlasts_the_idle_time_and_ends_with_its_reader(server, items):
    answer = open_page(server, "events")
    lines = [answer.readline() for _ in range(20)]
    assert lines[::2] == [f"data: {number}\n".encode() for number in range(10)]
    answer.close()
    time.sleep(1)
    n = len(items)
    time.sleep(0.6)
    assert len(items) == n, "nobody reads: the source is left alone"


def test_a_port_in_use_is_named(server):
    with pytest.raises(ValueError, match=f"port {server.port}: cannot be had"):
        LocalServer(LocalApp(routes=[]), server.port)
