"""The page of an avatar as a file and as it is served, in a real browser, with a real video that drives it."""

from __future__ import annotations

import http.client
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ffavatar_model.viewer import avatar_page
from flows.avatar.animate import open_animator, track_driver
from flows.avatar.drivers import open_driver
from flows.avatar.export import export_page
from flows.avatar.photos import FaceAligner
from flows.avatar.view import view_app
from flows.cli import main
from infra.local_app import LocalServer


@pytest.fixture(scope="module")
def driver_values(performer: Any) -> np.ndarray:
    """(frames, values) parameters of the driver's frames, estimated in this process."""
    source = open_driver(str(performer.driver))
    try:
        frames = track_driver(open_animator(performer.avatar), FaceAligner(), source)
        return np.stack([np.concatenate([v[0, 0].flatten() for v in frame.parameters]) for frame in frames])
    finally:
        source.close()


def wait(browser: Any, script: str) -> Any:
    from selenium.webdriver.support.ui import WebDriverWait

    return WebDriverWait(browser, 120).until(lambda b: b.execute_script(script))


def answer(port: int, path: str, host: str | None = None) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("GET", path, headers={"Host": host} if host else {})
        return connection.getresponse().status
    finally:
        connection.close()


def test_the_served_page_plays_the_driver_as_it_is_estimated(browser: Any, performer: Any, driver_values: np.ndarray):
    command = [sys.executable, "-m", "flows.cli", "view", str(performer.avatar), "--driver", str(performer.driver)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    killer = threading.Timer(300, process.kill)
    killer.start()
    try:
        assert process.stdout and process.stderr
        line = process.stdout.readline()
        port, key = re.search(r"http://127\.0\.0\.1:(\d+)/([\w-]+)/", line).groups()  # type: ignore[union-attr]
        browser.set_window_size(1020, 640)
        browser.get(f"http://127.0.0.1:{port}/{key}/")
        wait(browser, "return !!window.ffavatar")
        n = len(performer.frames)
        wait(browser, f"return ffavatar.actor.track.frames.length === {n} && !ffavatar.actor.track.growing")
        got = np.array(browser.execute_script("return ffavatar.actor.track.frames"))
        np.testing.assert_allclose(got, driver_values, atol=2e-3)
        assert browser.execute_script("return ffavatar.actor.playing"), "it plays by itself"
        wait(browser, "return document.getElementById('driver').naturalWidth > 0")
        assert wait(browser, "return ffavatar.actor.playhead > 0")
        for path, host, status in [
            ("/", None, 404),
            (f"/{key}", None, 404),
            ("/wrong/driver", None, 404),
            (f"/{key}/", "evil.example", 403),
            (f"/{key}/", f"localhost:{port}", 200),
        ]:
            assert answer(int(port), path, host) == status, path
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0 and process.stderr.read() == ""
    finally:
        killer.cancel()
        process.kill()
        process.wait()


@pytest.mark.parametrize("host", ["evil.example:{port}", "127.0.0.1", "127.0.0.1:1", "0.0.0.0:{port}"])
def test_the_served_page_is_closed_to_other_hosts_and_pages(host: str) -> None:
    """Without a browser: another name for this machine, a wrong key, and what the page may load."""
    with LocalServer(view_app(avatar_page(b"", "an avatar"))) as server:
        thread = threading.Thread(target=server.serve, daemon=True)
        thread.start()
        try:
            path = f"/{server.key}/"
            assert answer(server.port, path, host.format(port=server.port)) == 403
            assert answer(server.port, "/no-key/") == 404 and answer(server.port, f"{path}driver") == 404
            connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
            connection.request("GET", path)
            page = connection.getresponse()
            policy = page.headers["Content-Security-Policy"]
            assert page.status == 200 and b"an avatar" in page.read()
            assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy and "connect-src" not in policy
        finally:
            server.stop()
            thread.join(30)


def test_an_exported_page_with_a_driver_plays_it(
    browser: Any, performer: Any, driver_values: np.ndarray, tmp_path: Path
):
    size = export_page(performer.avatar, tmp_path / "page.html", str(performer.driver))
    assert size == (tmp_path / "page.html").stat().st_size < 2e6
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]
    browser.get((tmp_path / "page.html").as_uri())
    wait(browser, "return !!window.ffavatar")
    assert browser.execute_script("return ffavatar.manifest.points") == 4538
    names = browser.execute_script("return [...document.querySelectorAll('#panel label')].map((l) => l.textContent)")
    assert {"Jaw open", "smile, left", "blink, right", "Neck turn", "Zoom"} <= set(names) and len(names) > 50
    np.testing.assert_allclose(browser.execute_script("return ffavatar.actor.track.frames"), driver_values, atol=2e-3)
    assert not [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["export", "{avatar}"], "--html"),
        (["export", "{avatar}", "-o", "{tmp}/a.ply", "--html", "{tmp}/a.html"], "one thing"),
        (["export", "{avatar}", "--html", "{tmp}/a.txt"], "a.txt"),
        (["view", "{tmp}/none.safetensors"], "none.safetensors"),
        (["view", "{avatar}", "--driver", "{tmp}/none.mp4"], "none.mp4"),
        (["view", "{avatar}", "--port", "1"], "port 1"),
    ],
)
def test_wrong_calls_are_one_line(
    words: list[str],
    named: str,
    performer: Any,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setenv("FFAVATAR_HOME", str(tmp_path / "home"))
    if named == "port 1":
        monkeypatch.setattr("infra.local_app.socket.create_server", refuse)
    with pytest.raises(SystemExit) as ended:
        main([word.format(avatar=performer.avatar, tmp=tmp_path) for word in words])
    lines = capsys.readouterr().err.strip().splitlines()
    assert ended.value.code == 2 and len(lines) == 1 and named in lines[0], lines
    assert not [path for path in tmp_path.iterdir() if path.name != "home"]


def refuse(*_: object, **__: object) -> None:
    """Raise the error of binding a port of the system's (as root it would succeed)."""
    raise PermissionError(13, "Permission denied")
