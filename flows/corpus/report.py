"""Command ``ffavatar report``: write one HTML page that shows a corpus in images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from infra.console import say
from infra.storage import open_store
from mfhq.catalog import Catalog, Snapshot, read_blob
from pipelines.mining.speed_of_light import read_limits
from pipelines.report import render_report
from pipelines.report.history import read_history


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
    catalog = Catalog(store)
    snapshot = catalog.open(version)
    history = read_history(catalog, snapshot.version)
    former = [counts.version for counts in history if counts.version != snapshot.version]
    before = catalog.open(former[-1]) if former else None

    def blob(uri: str, offset: int, length: int) -> bytes:
        return read_blob(store, {"uri": uri, "offset": offset, "length": length})

    with snapshot.connect(before=before) as connection:
        page = render_report(
            connection,
            blob,
            out,
            version=snapshot.version,
            digest=snapshot.digest,
            corpus=store.uri,
            mattes=True,
            limits=read_limits(store),
            history=history,
            before=before.version if before else "",
            settings=_changed_settings(before, snapshot),
        )
    say("report {page}", page=page)
    return page


def _changed_settings(before: Snapshot | None, after: Snapshot) -> list[tuple[str, Any, Any]]:
    """Return the thresholds in which two snapshots differ: name, former and present value."""
    was, now = (snapshot.manifest.about.get("preset", {}) if snapshot else {} for snapshot in (before, after))
    names = [name for name in {**was, **now} if was.get(name) != now.get(name)] if before else []
    return [(name, was.get(name, "–"), now.get(name, "–")) for name in names]
