"""SQL queries and named questions over a published snapshot, answered by DuckDB."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flows.corpus.sql_output import copy_to_output, print_answer, replacing
from infra.console import CallError, err, print_table, say
from infra.storage import open_store
from mfhq.catalog import Catalog, Snapshot, explain_refusal
from mfhq.named_queries import NamedQuery, is_named, named_queries, named_query
from mfhq.paths import PRIVATE_TABLES
from mfhq.schema import TABLES

TRUSTED = "--trusted: this query may read every file that you may read, embeddings among them; it still writes nothing"
"""Line on standard error that says what the option opens."""


@dataclass(frozen=True)
class SqlRequest:
    """Snapshot that is asked, and what a query may read."""

    corpus: str
    version: str | None
    biometric: bool = False
    trusted: bool = False

    def open(self) -> Snapshot:
        """Open the snapshot.

        Raises:
            CatalogError: There is none.
        """
        return Catalog(open_store(self.corpus)).open(self.version)


@dataclass(frozen=True)
class Query:
    """SQL with the values of its parameters."""

    sql: str
    values: dict[str, Any]
    question: NamedQuery | None = None


def parse_query(text: str, settings: Sequence[str], snapshot: Snapshot) -> Query:
    """Return the query of a text, which is SQL or the name of a question.

    Args:
        text: The text.
        settings: NAME=VALUE for parameters.
        snapshot: The snapshot that is asked.

    Raises:
        CallError: The text is empty, or a setting has no value.
        QuestionError: There is no such question or parameter, or a value is of another type.
    """
    if not text.strip():
        raise CallError("the query is empty; try: ffavatar sql 'SELECT stage, reason, items FROM funnel'")
    values = dict[str, Any]()
    for setting in settings:
        name, separator, value = setting.partition("=")
        if not separator or not name:
            raise CallError(f"--set {setting}: has no value; write --set NAME=VALUE")
        values[name] = value
    if is_named(text):
        question = named_query(text)
        return Query(question.sql, question.bind_to(snapshot.version, values), question)
    return Query(text, {name: _literal(value) for name, value in values.items()})


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
        from flows.corpus.sql_shell import run_shell

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


def describe_views(snapshot: Snapshot) -> None:
    """Print every view with its columns and their meanings.

    Args:
        snapshot: The snapshot.
    """
    say("{uri} {version}: the views are", uri=snapshot.store.uri, version=snapshot.version)
    for name, schema in TABLES.items():
        rows = [(f.name, str(f.type), (f.metadata or {}).get(b"description", b"").decode()) for f in schema]
        private = " (with --biometric)" if name in PRIVATE_TABLES else ""
        title = f"{name}{private}: {(schema.metadata or {})[b'description'].decode()}"
        print_table(title, ("column", "type", "meaning"), rows)


def list_questions() -> None:
    """Print the named questions, each with its parameters and their defaults."""
    for question in named_queries().values():
        say("[bold]{name}[/bold]  {question}", name=question.name, question=question.question)
        for p in question.parameters:
            default = p.default if p.default != "" else "(empty)"
            say("    --set {name}={default}  {meaning}", name=p.name, default=default, meaning=p.meaning)
    say("ask with: ffavatar sql NAME --corpus URI [--set PARAMETER=VALUE]")


def _literal(text: str) -> Any:
    """Return a value of a parameter of SQL that the user wrote: a number if it is one, else the text."""
    for read in (int, float):
        try:
            return read(text)
        except ValueError:
            continue
    return text
