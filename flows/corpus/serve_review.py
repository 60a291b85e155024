"""Command ``ffavatar review``: serve a page on this machine, on which a reviewer decides the most doubtful cases."""

from __future__ import annotations

import getpass
import json
import logging
import secrets
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from infra.console import say
from infra.local_app import LocalApp, LocalServer
from infra.storage import open_store
from mfhq.store import StoreError
from pipelines.review.session import Review, ReviewError

log = logging.getLogger(__name__)


def review_command(corpus: str, reviewer: str | None, port: int, each: int) -> None:
    """Serve the review page until the command is interrupted; each decision is saved in the corpus at once.

    Args:
        corpus: URI of the corpus.
        reviewer: Name that signs the decisions; None for the user of this machine.
        port: Port on 127.0.0.1; 0 for a free one.
        each: Most cases of each kind that are shown.

    Raises:
        CatalogError: The corpus has no published snapshot.
        ValueError: The port cannot be used.
    """
    review = Review(open_store(corpus), reviewer or getpass.getuser(), each)
    with LocalServer(review_app(review), port) as server:
        say(
            "{n} cases of {uri} {version}; open {url} in a browser of this machine, end with Ctrl-C",
            n=len(review.cases),
            uri=review.store.uri,
            version=review.snapshot.version,
            url=server.url,
        )
        server.serve()
    review.close()
    say("the decisions hold from the next `ffavatar publish --corpus {uri}` on", uri=corpus)


def review_app(review: Review) -> LocalApp:
    """Return the review page as an application.

    ``/`` is the page, ``/cases`` and ``/case/{number}`` are JSON, ``/face/{face_id}`` is a WebP image, and decisions
    are posted to ``/decide`` as JSON objects. Errors are JSON objects with the key ``error``.
    """
    nonce = secrets.token_urlsafe(12)
    loader = ChoiceLoader([PackageLoader("pipelines.review"), PackageLoader("pipelines.report")])
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined)
    html = environment.get_template("review.html.j2").render(nonce=nonce, **review.overview())

    def page(request: Request) -> Response:
        return HTMLResponse(html)

    def cases(request: Request) -> Response:
        return JSONResponse(review.overview())

    def case(request: Request) -> Response:
        return JSONResponse(review.case(request.path_params["number"]))

    def face(request: Request) -> Response:
        face_id = request.path_params["face_id"]
        image = review.face_image(face_id)
        if image is None:
            raise ReviewError(f"no face {face_id}", 404)
        return Response(image, media_type="image/webp")

    async def decide(request: Request) -> Response:
        try:
            decision = json.loads(await request.body())
        except (ValueError, RecursionError) as error:
            raise ReviewError(f"a decision is JSON, and not nested ({type(error).__name__})") from error
        if not isinstance(decision, dict):
            raise ReviewError("a decision is a JSON object: kind, identity_id, track_ids or other_id")
        return JSONResponse(await run_in_threadpool(review.decide, decision))

    return LocalApp(
        routes=[
            Route("/", page),
            Route("/cases", cases),
            Route("/case/{number:int}", case),
            Route("/face/{face_id:path}", face),
            Route("/decide", decide, methods=["POST"]),
        ],
        headers={
            "Content-Security-Policy": (
                f"default-src 'none'; img-src 'self' data:; connect-src 'self'; style-src 'nonce-{nonce}'; "
                f"script-src 'nonce-{nonce}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
            ),
            "Cross-Origin-Opener-Policy": "same-origin",
        },
        error_response=_error_response,
        exception_handlers={ReviewError: _refused, StoreError: _failed, OSError: _failed, ValueError: _failed},
    )


def _error_response(status: int, message: str, **details: Any) -> Response:
    return JSONResponse({"error": message} | details, status)


def _refused(request: Request, error: ReviewError) -> Response:
    return _error_response(error.status, str(error), **error.details)


def _failed(request: Request, error: Exception) -> Response:
    log.warning("the review page: %s", error)
    return _error_response(500, str(error))
