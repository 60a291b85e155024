"""Commands for analysts: SQL queries, report and comparison of published snapshots."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from flows.cli.options import CORPUS, DEMO_CORPUS, SNAPSHOT


@click.command()
@click.argument("query", required=False)
@click.option("--corpus", default=DEMO_CORPUS, show_default=True, metavar="URI", help="The corpus.")
@SNAPSHOT
@click.option("--list", "listed", is_flag=True, help="List the named questions and their parameters.")
@click.option("--set", "values", multiple=True, metavar="NAME=VALUE", help="Value of a parameter ($NAME in SQL).")
@click.option("--csv", "form", flag_value="csv", help="Print CSV.")
@click.option("--json", "form", flag_value="json", help="Print JSON lines.")
@click.option("--parquet", type=click.Path(path_type=Path), metavar="FILE", help="Write a Parquet file.")
@click.option("--biometric", is_flag=True, help="Let the query read embeddings, which identify people.")
@click.option("--trusted", is_flag=True, help="Let the query read any file too; for your own machine and your own SQL.")
def sql(
    query: str | None,
    corpus: str,
    snapshot: str | None,
    listed: bool,
    values: Sequence[str],
    form: str | None,
    parquet: Path | None,
    biometric: bool,
    trusted: bool,
) -> None:
    """Answer QUERY, which is SQL or the name of a question, over a corpus's views.

    Without QUERY it is a shell on a terminal, and elsewhere lists the views and their columns. A query reads the views
    and nothing else, and writes nothing.
    """
    from flows.sql.sql_command import sql_command
    from flows.sql.sql_requests import SqlRequest, list_questions

    if listed:
        return list_questions()
    sql_command(SqlRequest(corpus, snapshot, biometric, trusted), query, values, form, parquet)


@click.command()
@CORPUS
@SNAPSHOT
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), help="Folder of the page.")
def report(corpus: str, snapshot: str | None, out: Path) -> None:
    """Show the corpus in images: write one HTML page."""
    from flows.corpus.report import report_command

    report_command(corpus, snapshot, out)


@click.command()
@click.argument("before", metavar="vA")
@click.argument("after", metavar="vB")
@CORPUS
def diff(before: str, after: str, corpus: str) -> None:
    """Show what changed from snapshot vA to vB."""
    from flows.corpus.show_diff import diff_command

    diff_command(before, after, corpus)


COMMANDS = (sql, report, diff)
"""Commands that ``flows.cli`` adds to the group."""
