"""The review page's server: this machine only, behind a key in the path, with no way in for another site's page."""

from __future__ import annotations

import hmac
import json
import logging
import secrets
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

from mfhq.store import StoreError
from pipelines.review.session import Review, ReviewError

HOST = "127.0.0.1"
MOST_BYTES = 1 << 20
"""Of a request's body: a decision names at most a page of tracks."""

log = logging.getLogger(__name__)


class ReviewServer(ThreadingHTTPServer):
    """Serves one ``Review`` on 127.0.0.1.

    Every path begins with a key that only the printed address has: other users of the machine see nothing. A
    request must name this server in ``Host`` (a foreign name that was made to point here does not), and a decision must
    be JSON and come from this page (``Origin``, ``Sec-Fetch-Site``), so that another site's page cannot send one.
    """

    daemon_threads = True

    def __init__(self, review: Review, port: int = 0) -> None:
        self.review = review
        self.key = secrets.token_urlsafe(18)
        self.nonce = secrets.token_urlsafe(12)
        super().__init__((HOST, port), _Handler)
        self.page = _page(review, self.nonce)

    @property
    def url(self) -> str:
        """The page's address, with the key."""
        return f"http://{HOST}:{self.server_port}/{self.key}/"


class _Handler(BaseHTTPRequestHandler):
    """``/{key}/`` the page, ``…/cases`` and ``…/case/{n}`` JSON, ``…/face/{id}`` a WebP, POST ``…/decide``."""

    server: ReviewServer
    server_version, sys_version = "ffavatar", ""
    protocol_version = "HTTP/1.1"
    timeout = 30

    def do_GET(self) -> None:
        """The page, a case, a picture."""
        self._answer(self._get)

    def do_POST(self) -> None:
        """A decision."""
        self._answer(self._post)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: a path holds the key."""

    def _answer(self, what: Callable[[str], tuple[str, bytes]]) -> None:
        status, kind = HTTPStatus.OK, "application/json"
        try:
            kind, body = what(self._path())
        except ReviewError as error:
            status = HTTPStatus(error.status)
            body = json.dumps({"error": str(error)} | error.details).encode()
        except (StoreError, OSError, ValueError) as error:
            log.warning("the review page: %s", error)
            status, body = HTTPStatus.INTERNAL_SERVER_ERROR, json.dumps({"error": str(error)}).encode()
        if status != HTTPStatus.OK:
            self.close_connection = True  # a body that was refused may be unread
        self.send_response(status)
        policy = (
            f"default-src 'none'; img-src 'self' data:; connect-src 'self'; style-src 'nonce-{self.server.nonce}'; "
            f"script-src 'nonce-{self.server.nonce}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )
        for name, value in {
            "Content-Type": kind,
            "Content-Length": str(len(body)),
            "Cache-Control": "no-store",
            "Content-Security-Policy": policy,
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            "Cross-Origin-Resource-Policy": "same-origin",
            "Cross-Origin-Opener-Policy": "same-origin",
        }.items():
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def _path(self) -> str:
        """The path below the key."""
        ours = {f"{name}:{self.server.server_port}" for name in (HOST, "localhost")}
        if self.headers.get("Host", "") not in ours:
            raise ReviewError(f"this is {HOST}:{self.server.server_port}, under no other name", 421)
        _, key, *rest = self.path.partition("?")[0].split("/", 2)
        if not rest or not hmac.compare_digest(key.encode(), self.server.key.encode()):
            raise ReviewError("no such page; open the address that `ffavatar review` printed", 404)
        return rest[0]

    def _get(self, path: str) -> tuple[str, bytes]:
        review = self.server.review
        what, _, name = path.partition("/")
        if path == "":
            return "text/html; charset=utf-8", self.server.page
        if path == "cases":
            return "application/json", json.dumps(review.overview()).encode()
        if what == "case" and name.isdigit():
            return "application/json", json.dumps(review.case(int(name))).encode()
        if what == "face" and (picture := review.picture(name)) is not None:
            return "image/webp", picture
        raise ReviewError(f"no {what or 'page'} {name}", 404)

    def _post(self, path: str) -> tuple[str, bytes]:
        origin, site = self.headers.get("Origin"), self.headers.get("Sec-Fetch-Site")
        here = {f"http://{name}:{self.server.server_port}" for name in (HOST, "localhost")}
        if (origin is not None and origin not in here) or site not in (None, "same-origin"):
            raise ReviewError("a decision comes from the review page alone", 403)
        if self.headers.get("Content-Type", "").partition(";")[0].strip() != "application/json":
            raise ReviewError("a decision is JSON (Content-Type: application/json)", 415)
        length = self.headers.get("Content-Length", "")
        if not length.isdigit() or int(length) > MOST_BYTES:
            raise ReviewError(f"a decision has a Content-Length, of at most {MOST_BYTES}", 413)
        if path != "decide":
            raise ReviewError(f"nothing takes {path!r}; decisions go to decide", 404)
        try:
            asked = json.loads(self.rfile.read(int(length)))
        except ValueError as error:
            raise ReviewError(f"a decision is JSON ({error})") from error
        if not isinstance(asked, dict):
            raise ReviewError("a decision is a JSON object: kind, identity_id, track_ids or other_id")
        return "application/json", json.dumps(self.server.review.decide(asked)).encode()


def _page(review: Review, nonce: str) -> bytes:
    loader = ChoiceLoader([PackageLoader("pipelines.review"), PackageLoader("pipelines.report")])
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined)
    page = environment.get_template("review.html.j2").render(nonce=nonce, **review.overview())
    return page.encode()
