"""Commands for analysts: SQL queries, report and comparison of published snapshots."""

from __future__ import annotations

from pathlib import Path

import click

from flows.cli.options import CORPUS, DEMO_CORPUS, SNAPSHOT


@click.command()
@click.argument("query", required=False)
@click.option("--corpus", default=DEMO_CORPUS, show_default=True, metavar="URI", help="The corpus.")
@SNAPSHOT
@click.option("--csv", "form", flag_value="csv", help="Print CSV.")
@click.option("--json", "form", flag_value="json", help="Print JSON lines.")
@click.option("--biometric", is_flag=True, help="Let the query read embeddings, which identify people.")
@click.option("--trusted", is_flag=True, help="Let the query read any file too; for your own machine and your own SQL.")
def sql(query: str | None, corpus: str, snapshot: str | None, form: str | None, biometric: bool, trusted: bool) -> None:
    """Answer QUERY over a corpus's views; without one, list the views and their columns.

    A query reads the views and nothing else, and writes nothing.
    """
    from flows.corpus.sql import sql_command

    sql_command(corpus, query, snapshot, form or "table", biometric, trusted)


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
