"""Command ``ffavatar report``: write one HTML page that shows a corpus in images."""

from __future__ import annotations

from pathlib import Path

from infra.console import say
from infra.storage import open_store
from mfhq.catalog import Catalog, read_blob
from pipelines.mining.speed_of_light import read_limits
from pipelines.report import render_report


def report_command(corpus: str, version: str | None, out: Path) -> Path:
    """Run ``ffavatar report``: write the HTML page of a snapshot.

    Args:
        corpus: URI of the corpus.
        version: Name of the snapshot; None for the newest.
        out: Folder of the page.

    Returns:
        Path of the page.

    Raises:
        CatalogError: There is no such snapshot.
    """
    store = open_store(corpus)
    snapshot = Catalog(store).open(version)

    def blob(uri: str, offset: int, length: int) -> bytes:
        return read_blob(store, {"uri": uri, "offset": offset, "length": length})

    with snapshot.connect() as connection:
        page = render_report(
            connection,
            blob,
            out,
            version=snapshot.version,
            digest=snapshot.digest,
            corpus=store.uri,
            mattes=True,
            limits=read_limits(store),
        )
    say("report {page}", page=page)
    return page
