"""Web pages for one user of this machine: a Starlette application behind a secret key, served on 127.0.0.1.

All protection against other users and other sites is in this module: the key in the path, the check of ``Host``, the
security headers, the limit on a request's body, and the refusal of requests from the pages of other sites.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import logging
import secrets
import socket
import sys
import tempfile
import threading
import webbrowser
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

HOST = "127.0.0.1"
MAX_BODY_BYTES = 1 << 20
"""Largest body of a request, bytes."""
IDLE_S = 30.0
"""Seconds after which a silent connection is closed, and a request with an incomplete body is refused."""
MAX_CONNECTIONS = 100
"""Most open connections; a new one then closes the one that has been idle for the longest time."""
SHUTDOWN_S = 1
"""Seconds that open responses (event streams) have to end when the server stops."""

_SAME_ORIGIN_HEADERS = {
    "Server": "ffavatar",
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}

log = logging.getLogger(__name__)


def _plain_error(status: int, message: str) -> Response:
    return Response(message, status, {"Content-Type": "text/plain"})


@dataclass(frozen=True, kw_only=True)
class LocalApp:
    """Routes, headers and error responses of a local page."""

    routes: Sequence[Route]
    """Routes below the key; ``/`` is the page."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Headers of every response, in addition to those that every local page has."""
    wrong_host_status: int = 421
    """HTTP status of the response to a request that names another host."""
    error_response: Callable[[int, str], Response] = _plain_error
    """Function that makes the response to a refused request from an HTTP status and a message."""
    exception_handlers: Mapping[Any, Callable[[Request, Any], Response]] = field(default_factory=dict)
    """Functions that make the response to an exception of a route, by the exception's class."""


class LocalServer:
    """Server of a ``LocalApp`` on 127.0.0.1, with uvicorn.

    Every path begins with a secret key, which only the printed address contains; so other users of the machine see
    nothing. A request must name this server in ``Host``, which stops requests under a foreign name that resolves to
    this machine. A POST must come from this page (``Origin``, ``Sec-Fetch-Site``) and contain JSON of a stated length.

    Args:
        app: The application.
        port: The port; 0 for a free one.

    Raises:
        ValueError: The port cannot be used.
    """

    def __init__(self, app: LocalApp, port: int = 0) -> None:
        self.key = secrets.token_urlsafe(18)
        try:
            self._socket = socket.create_server((HOST, port))
        except OSError as error:
            raise ValueError(
                f"port {port}: cannot be had ({error.strerror}); give another with --port, or none"
            ) from error
        self.host, self.port = self._socket.getsockname()[:2]
        config = uvicorn.Config(
            _Guard(app, self.key, self.port),
            loop="asyncio",
            http=_IdleClosingProtocol,
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="critical",  # ``_Guard`` logs failures; requests are not logged, because a path contains the key
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=int(IDLE_S),
            timeout_graceful_shutdown=SHUTDOWN_S,
        )
        self._server = uvicorn.Server(config)

    @property
    def url(self) -> str:
        """Address of the page, with the key."""
        return f"http://{self.host}:{self.port}/{self.key}/"

    def serve(self) -> None:
        """Answer requests until ``stop`` is called, or until Ctrl-C in the main thread."""
        with contextlib.suppress(KeyboardInterrupt):
            self._server.run([self._socket])

    def stop(self) -> None:
        """Make ``serve`` return; callable from any thread."""
        self._server.should_exit = True

    def __enter__(self) -> LocalServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._socket.close()


@contextlib.contextmanager
def opened_in_browser(url: str) -> Iterator[None]:
    """Open a page in the user's browser; the address, which has the key in it, is in no process's arguments.

    The browser is given a file that leads to the page. Only the user may read it, and it is removed after the block.

    Args:
        url: Address of the page.
    """
    with tempfile.TemporaryDirectory(prefix="ffavatar-view-", ignore_cleanup_errors=True) as folder:
        leads = Path(folder) / "page.html"  # in a folder of mode 0700
        leads.write_text(f'<!doctype html><meta http-equiv="refresh" content="0; url={url}">\n')
        leads.chmod(0o600)
        webbrowser.open(leads.as_uri())
        yield


class _Guard:
    """ASGI middleware around the routes: it refuses requests that do not come from the page, and adds the headers."""

    def __init__(self, app: LocalApp, key: str, port: int) -> None:
        self._key, self._port = key.encode(), port
        self._names = {f"{name}:{port}" for name in (HOST, "localhost")}
        self._headers = {**_SAME_ORIGIN_HEADERS, **app.headers}
        self._wrong_host_status, self._error_response = app.wrong_host_status, app.error_response
        handlers: dict[Any, Callable[[Request, Any], Response]] = {HTTPException: self._http_error}
        self._routes = Starlette(routes=list(app.routes), exception_handlers=handlers | dict(app.exception_handlers))
        self._routes.router.redirect_slashes = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(self._headers)
                if message["status"] != 200:
                    headers["Connection"] = "close"  # the body of a refused request may be unread
            await send(message)

        try:
            path = self._path_below_key(scope)
            if scope["method"] == "POST":
                receive = await self._read_body(Headers(scope=scope), receive)
            await self._routes({**scope, "path": path, "raw_path": path.encode()}, receive, send_with_headers)
        except HTTPException as refusal:
            response = self._error_response(refusal.status_code, refusal.detail)
            await response(scope, receive, send_with_headers)
        except Exception:  # Starlette has answered with status 500 already
            log.exception("a request to the page failed")

    def _path_below_key(self, scope: Scope) -> str:
        if Headers(scope=scope).getlist("host") not in ([name] for name in self._names):
            raise HTTPException(self._wrong_host_status, f"this is {HOST}:{self._port}, under no other name")
        if scope["method"] not in ("GET", "POST"):
            raise HTTPException(501, f"method {scope['method']}: the page answers GET and POST alone")
        _, key, *rest = scope["path"].split("/", 2)
        if not rest or not hmac.compare_digest(key.encode(), self._key):
            raise HTTPException(404, "no such page; open the address that the command printed")
        return f"/{rest[0]}"

    async def _read_body(self, headers: Headers, receive: Receive) -> Receive:
        """Read the body of a POST within the limits, and return a ``receive`` function that yields it again.

        Raises:
            HTTPException: The request does not come from this page, or its body breaks a limit.
        """
        origins = {None, *(f"http://{name}" for name in self._names)}
        if headers.get("origin") not in origins or headers.get("sec-fetch-site") not in (None, "same-origin"):
            raise HTTPException(403, "a POST comes from this page alone")
        if headers.get("content-type", "").partition(";")[0].strip() != "application/json":
            raise HTTPException(415, "a POST is JSON (Content-Type: application/json)")
        length = headers.get("content-length", "")
        if not length.isdecimal() or int(length) > MAX_BODY_BYTES or "transfer-encoding" in headers:
            raise HTTPException(413, f"a POST has a Content-Length, of at most {MAX_BODY_BYTES}")
        parts, more = [], True
        try:
            async with asyncio.timeout(IDLE_S):
                while more:
                    message = await receive()
                    parts.append(message.get("body", b""))
                    more = message.get("more_body", False)
        except TimeoutError:
            raise HTTPException(408, f"the body did not arrive in {IDLE_S:g} seconds") from None
        body = b"".join(parts)
        if len(body) != int(length):
            raise HTTPException(400, f"{len(body)} bytes of a body of {length}")
        pending: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive_again() -> Message:
            return pending.pop() if pending else await receive()

        return receive_again

    def _http_error(self, request: Request, error: HTTPException) -> Response:
        return self._error_response(error.status_code, f"{request.scope['path']}: {error.detail}")

    def malformed(self, error: BaseException | None) -> tuple[int, Response]:
        """Return the status and the response for bytes that are not a valid HTTP request.

        A request without ``Host``, or with two, gets the status of a request that names another host.
        """
        status = self._wrong_host_status if "Host:" in str(error) else 400
        response = self._error_response(status, f"not a request to {HOST}:{self._port} ({error})")
        response.headers.update({**self._headers, "Connection": "close"})
        return status, response


class _IdleClosingProtocol(H11Protocol):
    """uvicorn's protocol with a limit on the time for which a connection may be open without a request.

    uvicorn itself limits only the time after a response, so a client could keep connections open without a request.
    """

    app: _Guard
    _since = 0.0
    _idle_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._since = self.loop.time()
        self._restart_timer()
        open_now = [c for c in self.connections if isinstance(c, _IdleClosingProtocol) and not c.transport.is_closing()]
        if len(open_now) > MAX_CONNECTIONS:
            idle = [other for other in open_now if other is not self and not other.is_answering]
            min(idle, key=lambda other: other._since, default=self).transport.close()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._since = self.loop.time()
        self._restart_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._idle_timer is not None:
            self._idle_timer.cancel()
        super().connection_lost(exc)

    def _restart_timer(self) -> None:
        if self._idle_timer is not None:
            self._idle_timer.cancel()
        if not self.transport.is_closing():
            self._idle_timer = self.loop.call_later(IDLE_S, self._close_if_idle)

    @property
    def is_answering(self) -> bool:
        """True while a response is being written."""
        return self.cycle is not None and not self.cycle.response_complete

    def _close_if_idle(self) -> None:
        if self.is_answering:
            self._restart_timer()
        else:
            self.transport.close()

    def send_400_response(self, msg: str) -> None:
        status, response = self.app.malformed(sys.exc_info()[1])
        lines = [f"HTTP/1.1 {status} Refused", *(f"{name}: {value}" for name, value in response.headers.items())]
        self.transport.write("\r\n".join([*lines, "", ""]).encode("latin-1") + bytes(response.body))
        self.transport.close()


async def iterate_in_thread(items: Iterator[str]) -> AsyncIterator[str]:
    """Yield the items of a blocking iterator, which a daemon thread reads, so that waiting never delays an exit.

    The next item is read only after the consumer has asked for it, so nothing is read ahead of a slow consumer.
    """
    loop, queue = asyncio.get_running_loop(), asyncio.Queue[str | None]()
    requested, closed = threading.Semaphore(0), threading.Event()

    def read() -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed
            while requested.acquire() and not closed.is_set():
                item = next(items, None)
                loop.call_soon_threadsafe(queue.put_nowait, item)
                if item is None:
                    return

    threading.Thread(target=read, name="event stream", daemon=True).start()
    try:
        while True:
            requested.release()
            item = await queue.get()
            if item is None:
                return
            yield item
    finally:
        closed.set()
        requested.release()
