"""SQL queries and named questions over a published snapshot, answered by DuckDB."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from flows.sql.sql_output import copy_to_output, print_answer, replacing
from flows.sql.sql_requests import Query, SqlRequest, describe_views, parse_query
from infra.console import CallError, err, say
from mfhq.catalog import Snapshot, explain_refusal

TRUSTED = "--trusted: this query may read every file that you may read, embeddings among them; it still writes nothing"
"""Line on standard error that says what the option opens."""


def sql_command(
    request: SqlRequest,
    query: str | None,
    settings: Sequence[str] = (),
    form: str | None = None,
    parquet: Path | None = None,
) -> None:
    """Run ``ffavatar sql``: print or write the result of a query; without one, open a shell or describe the views.

    Args:
        request: The snapshot, and what the query may read.
        query: SQL, or the name of a question.
        settings: NAME=VALUE for its parameters.
        form: csv or json (one line a row); None for a table.
        parquet: File to write; None to print.

    Raises:
        CallError: The query is empty, or an argument does not go with another one.
        CatalogError: There is no snapshot, or DuckDB refuses the query; the message says why.
    """
    if form and parquet:
        raise CallError(f"--{form} and --parquet: one of them is needed")
    if query is None and (form or parquet or settings):
        raise CallError("no query is given; write SQL, or a name that `ffavatar sql --list` shows")
    snapshot = request.open()
    if request.trusted:
        err.print(TRUSTED, markup=False)
    if query is not None:
        with explain_refusal():
            _answer(request, snapshot, parse_query(query, settings, snapshot), form, parquet)
    elif sys.stdin.isatty() and sys.stdout.isatty():
        from flows.sql.sql_shell import run_shell

        run_shell(request, snapshot)
    else:
        describe_views(snapshot)


def _answer(request: SqlRequest, snapshot: Snapshot, query: Query, form: str | None, parquet: Path | None) -> None:
    before = snapshot.compared(query.question, query.values)
    began = time.perf_counter()
    if parquet:
        with (
            replacing(parquet, request.corpus) as part,
            snapshot.connect(request.biometric, request.trusted, before, part) as connection,
        ):
            n = connection.write(query.sql, "parquet", part, query.values)
        say("{file}: {n:,} rows in {s:.2f} s", file=parquet, n=n, s=time.perf_counter() - began)
    elif form:
        with tempfile.TemporaryDirectory(prefix="ffavatar-sql-out-") as folder:
            part = Path(folder, "rows")
            with snapshot.connect(request.biometric, request.trusted, before, part) as connection:
                connection.write(query.sql, form, part, query.values)
            copy_to_output(part)
    else:
        with snapshot.connect(request.biometric, request.trusted, before) as connection:
            print_answer(connection, query.sql, query.values, began)
