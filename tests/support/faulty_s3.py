"""An S3 server's bad days: a proxy on 127.0.0.1 that answers some requests with 503, and some not at all."""

from __future__ import annotations

import contextlib
import http.client
import http.server
import threading
import urllib.parse
from collections import Counter
from collections.abc import Iterator


class Faults(http.server.ThreadingHTTPServer):
    """Passes requests on to ``target``; every so many, by kind, end otherwise.

    Kinds: ``503``; ``closed``, no answer, and nothing done; ``lost``, no answer though it was done.
    """

    def __init__(self, target: str, every: dict[str, int]) -> None:
        super().__init__(("127.0.0.1", 0), _PassOn)
        self.target, self.every = urllib.parse.urlparse(target).netloc, every
        self.seen, self.faults, self.lock = 0, Counter[str](), threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def next_fault(self) -> str:
        with self.lock:
            self.seen += 1
            fault = next((kind for kind, n in self.every.items() if self.seen % n == 0), "")
            self.faults[fault] += 1
            return fault


class _PassOn(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Faults

    def _pass_on(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fault = self.server.next_fault()
        if fault == "closed":
            self.close_connection = True
            return
        if fault == "503":
            self.send_response(503)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        connection = http.client.HTTPConnection(self.server.target, timeout=60)
        connection.request(self.command, self.path, body, dict(self.headers))
        answer = connection.getresponse()
        data = answer.read()
        connection.close()
        if fault == "lost":
            self.close_connection = True
            return
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("transfer-encoding", "connection"):
                self.send_header(name, value)
        if answer.getheader("Content-Length") is None:
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data if self.command != "HEAD" else b"")

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _pass_on

    def log_message(self, *words: object) -> None:
        pass


@contextlib.contextmanager
def faulty(target: str, **every: int) -> Iterator[Faults]:
    """The proxy while it runs. ``every``: kind of fault to every which request has it."""
    proxy = Faults(target, {kind.removeprefix("_"): n for kind, n in every.items()})
    threading.Thread(target=proxy.serve_forever, daemon=True).start()
    try:
        yield proxy
    finally:
        proxy.shutdown()
        proxy.server_close()
