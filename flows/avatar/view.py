"""``ffavatar view``: the exported page, served on 127.0.0.1, with a driver's parameters as they are found."""

from __future__ import annotations

import base64
import contextlib
import hmac
import json
import logging
import secrets
import threading
import webbrowser
from collections.abc import Iterator
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import cv2

from ffavatar_model.animation.animator import Animator
from ffavatar_model.animation.smoothing import OneEuro
from ffavatar_model.viewer import avatar_page
from ffavatar_model.viewer.packing import track_frame
from flows.avatar.animate import DriverFrame, open_animator, watch
from flows.avatar.drivers import CameraDriver, Driver, open_driver
from flows.avatar.export import packed_avatar
from flows.avatar.photos import FaceAligner
from infra.console import out, say

HOST = "127.0.0.1"
STREAM = "driver"
PICTURE_PX = 128
KEPT_LIVE = 2
"""Frames of a camera that are kept for a page that looks away."""

log = logging.getLogger(__name__)


def view_command(
    avatar: Path, driver: str | None, smooth: bool, checkpoint: Path | None, pack: str | None, port: int
) -> None:
    """Serve the page until it is interrupted. Raises ``CallError`` for what ``animate`` raises it, before it serves."""
    feed = open_feed(avatar, driver, smooth, checkpoint, pack) if driver is not None else None
    page = avatar_page(packed_avatar(avatar), avatar.stem, STREAM if feed else None)
    try:
        server = ViewServer(page, feed, port)
    except OSError as error:
        raise ValueError(f"port {port}: cannot be had ({error.strerror}); give another with --port, or none") from error
    say("{avatar}: open {url} in a browser of this machine, end with Ctrl-C", avatar=avatar, url=server.url)
    if out.is_terminal:
        webbrowser.open(server.url)
    with contextlib.suppress(KeyboardInterrupt), server:
        server.serve_forever()
    if feed is not None:
        feed.close()


def open_feed(avatar: Path, driver: str, smooth: bool, checkpoint: Path | None, pack: str | None) -> Feed:
    """A driver that is being watched, for ``ViewServer``."""
    animator = open_animator(avatar, checkpoint, OneEuro.Config() if smooth else None)
    return Feed(animator, FaceAligner(pack), open_driver(driver))


class Feed:
    """What a driver says, frame by frame, as JSON texts that pages read from the first on (a camera's: the newest)."""

    def __init__(self, animator: Animator, maker: FaceAligner, source: Driver) -> None:
        self._source, self._live = source, isinstance(source, CameraDriver)
        self._texts: list[str] = []
        self._dropped = 0
        self._end = ""
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, args=(animator, maker), name="driver", daemon=True)
        self._thread.start()

    def _run(self, animator: Animator, maker: FaceAligner) -> None:
        end = "event: end\ndata: \n\n"
        try:
            for driven in watch(animator, maker, self._source):
                text = f"data: {json.dumps(self._frame(driven))}\n\n"
                with self._changed:
                    self._texts.append(text)
                    if self._live and len(self._texts) > KEPT_LIVE:
                        self._dropped += 1
                        del self._texts[0]
                    self._changed.notify_all()
        except Exception as error:  # what goes wrong is for the page to say, whatever it is
            log.exception("the driver %s", self._source.name)
            end = f"event: failed\ndata: {' '.join(str(error).split())}\n\n"
        finally:
            with self._changed:
                self._end = end
                self._changed.notify_all()

    def _frame(self, driven: DriverFrame) -> dict[str, Any]:
        small = cv2.resize(driven.shown, (PICTURE_PX, PICTURE_PX), interpolation=cv2.INTER_AREA)
        _, jpeg = cv2.imencode(".jpg", small[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 80])
        picture = "data:image/jpeg;base64," + base64.b64encode(jpeg.tobytes()).decode()
        time_s = round(driven.time_s, 4)
        return {"values": track_frame(driven.parameters), "time_s": time_s, "picture": picture, "live": self._live}

    def texts(self) -> Iterator[str]:
        """Each frame as a server-sent event; the last says that it ended, or why it failed."""
        at = 0
        while True:
            with self._changed:
                while at >= self._dropped + len(self._texts) and not self._end:
                    self._changed.wait()
                at = max(at, self._dropped)
                new, ended = self._texts[at - self._dropped :], self._end
            yield from new
            at += len(new)
            if ended:
                yield ended
                return

    def close(self) -> None:
        """Let go of the driver."""
        self._source.close()


class ViewServer(ThreadingHTTPServer):
    """The page at ``/{key}/`` and its driver's events at ``/{key}/driver``, on 127.0.0.1 alone.

    Only the printed address has the key, and a request must name this server in ``Host``: a foreign name that was made
    to point here does not.
    """

    daemon_threads = True

    def __init__(self, page: str, feed: Feed | None = None, port: int = 0) -> None:
        self.page, self.feed = page.encode(), feed
        self.key = secrets.token_urlsafe(18)
        super().__init__((HOST, port), _Handler)

    @property
    def url(self) -> str:
        """The page's address, with the key."""
        return f"http://{HOST}:{self.server_port}/{self.key}/"


class _Handler(BaseHTTPRequestHandler):
    server: ViewServer
    server_version, sys_version = "ffavatar", ""

    def do_GET(self) -> None:
        """The page, or the driver's events."""
        port = self.server.server_port
        named = self.headers.get("Host", "") in (f"{HOST}:{port}", f"localhost:{port}")
        page, stream = f"/{self.server.key}/", f"/{self.server.key}/{STREAM}"
        with contextlib.suppress(ConnectionError, BrokenPipeError):
            if not named:
                self._begin(HTTPStatus.FORBIDDEN, "text/plain")
            elif hmac.compare_digest(self.path.encode(), page.encode()):
                self._begin(HTTPStatus.OK, "text/html; charset=utf-8")
                self.wfile.write(self.server.page)
            elif self.server.feed is not None and hmac.compare_digest(self.path.encode(), stream.encode()):
                self._begin(HTTPStatus.OK, "text/event-stream")
                for text in self.server.feed.texts():
                    self.wfile.write(text.encode())
                    self.wfile.flush()
            else:
                self._begin(HTTPStatus.NOT_FOUND, "text/plain")

    def _begin(self, status: HTTPStatus, kind: str) -> None:
        self.send_response(status)
        for name, value in (
            ("Content-Type", kind),
            ("Cache-Control", "no-store"),
            ("X-Content-Type-Options", "nosniff"),
            ("Cross-Origin-Resource-Policy", "same-origin"),
            ("Referrer-Policy", "no-referrer"),
        ):
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: a path holds the key."""
