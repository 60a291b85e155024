"""The corpus MFHQ: its schema, its snapshots, and SQL over them (``mfhq.connect``)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mfhq.fenced_connection import FencedConnection


def connect(
    uri: str, snapshot: str | None = None, *, since: str | None = None, biometric: bool = False, trusted: bool = False
) -> FencedConnection:
    """Open a published snapshot for SQL, for example in a notebook.

    ``connection.table("SELECT ...")`` and ``connection.ask("people", most=5)`` return Arrow tables. Queries read the
    snapshot's views and nothing else, and write nothing (``mfhq.sql_fence``).

    Args:
        uri: Path, ``file://`` or ``s3://`` URI of the corpus.
        snapshot: Name of the snapshot, such as ``v0003``; None for the newest.
        since: Name of an earlier snapshot, whose views are there too, as ``before_faces`` and so on; None for the one
            before this one.
        biometric: Let queries read ``embeddings``, which identify people.
        trusted: Let queries read any file too; for the user's own machine.

    Raises:
        CatalogError: There is no such snapshot.
        StoreError: The corpus cannot be reached.
    """
    from infra.storage import open_store
    from mfhq.catalog import Catalog
    from mfhq.named_queries import named_query

    opened = Catalog(open_store(uri)).open(snapshot)
    before = opened.compared(named_query("changes"), {"since": since or ""})
    return opened.connect(biometric, trusted, before)
