"""``ffavatar review``: a page on this machine for the people that most deserve an eye."""

from __future__ import annotations

import contextlib
import getpass

from infra.console import say
from infra.storage import open_store
from pipelines.review.server import ReviewServer
from pipelines.review.session import Review


def review_command(corpus: str, reviewer: str | None, port: int, each: int) -> None:
    """Serve the page until it is interrupted; decisions are rows of the corpus as soon as they are made.

    Raises:
        CatalogError: nothing is published.
    """
    review = Review(open_store(corpus), reviewer or getpass.getuser(), each)
    try:
        server = ReviewServer(review, port)
    except OSError as error:
        raise ValueError(f"port {port}: cannot be had ({error.strerror}); give another with --port, or none") from error
    say(
        "{n} cases of {uri} {version}; open {url} in a browser of this machine, end with Ctrl-C",
        n=len(review.cases),
        uri=review.store.uri,
        version=review.snapshot.version,
        url=server.url,
    )
    with contextlib.suppress(KeyboardInterrupt), server:
        server.serve_forever()
    review.close()
    say("the decisions hold from the next `ffavatar publish --corpus {uri}` on", uri=corpus)
