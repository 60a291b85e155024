"""SQL queries over a published snapshot, answered by DuckDB."""

from __future__ import annotations

import csv
import json
import sys

from infra.console import CallError, err, print_table, say
from infra.storage import open_store
from mfhq.catalog import Catalog
from mfhq.paths import PRIVATE_TABLES
from mfhq.schema import TABLES

TRUSTED = "--trusted: this query may read every file that you may read, embeddings among them; it still writes nothing"
"""Line on standard error that says what the option opens."""


def sql_command(
    corpus: str, query: str | None, version: str | None, form: str, biometric: bool = False, trusted: bool = False
) -> None:
    """Run ``ffavatar sql``: print the result of a query; without one, describe the views.

    Args:
        corpus: URI of the corpus.
        query: One SQL query, or ``@NAME`` of a named one.
        version: Name of the snapshot; None for the newest.
        form: table, csv or json (one line a row).
        biometric: Let the query read ``embeddings``.
        trusted: Let the query read any file; one line on standard error says so.

    Raises:
        CallError: The query is empty.
        CatalogError: There is no snapshot, or DuckDB refuses the query; the message says why.
    """
    if query is not None and not query.strip():
        raise CallError("the query is empty; try: ffavatar sql 'SELECT stage, reason, items FROM funnel'")
    snapshot = Catalog(open_store(corpus)).open(version)
    if query is None:
        say("{uri} {version}: the views are", uri=corpus, version=snapshot.version)
        for name, schema in TABLES.items():
            rows = [(f.name, str(f.type), (f.metadata or {}).get(b"description", b"").decode()) for f in schema]
            private = " (with --biometric)" if name in PRIVATE_TABLES else ""
            title = f"{name}{private}: {(schema.metadata or {})[b'description'].decode()}"
            print_table(title, ("column", "type", "meaning"), rows)
        return
    if trusted:
        err.print(TRUSTED, markup=False)
    result = snapshot.query(query, biometric, trusted)
    names = result.column_names
    rows = list(zip(*(column.to_pylist() for column in result.columns), strict=True))
    if form == "csv":
        writer = csv.writer(sys.stdout)
        writer.writerow(names)
        writer.writerows(rows)
    elif form == "json":
        for row in rows:
            sys.stdout.write(json.dumps(dict(zip(names, row, strict=True)), default=str) + "\n")
    else:
        print_table("", names, rows)
        say("{n} rows", n=len(rows))
