"""Commands for analysts: questions about a published corpus."""

from __future__ import annotations

from pathlib import Path

import click

from flows.cli.options import CORPUS


@click.command()
@click.argument("before", metavar="vA")
@click.argument("after", metavar="vB")
@CORPUS
def diff(before: str, after: str, corpus: str) -> None:
    """What changed from snapshot vA to vB."""
    from flows.corpus.show_diff import diff_command

    diff_command(before, after, corpus)


@click.command()
@click.argument("query", required=False)
@click.option("--corpus", default="demo/corpus", show_default=True, metavar="URI", help="The corpus.")
@click.option("--snapshot", metavar="vN", help="Default the newest.")
@click.option("--csv", "form", flag_value="csv", help="Print CSV.")
@click.option("--json", "form", flag_value="json", help="Print JSON lines.")
def sql(query: str | None, corpus: str, snapshot: str | None, form: str | None) -> None:
    """Answer QUERY over a corpus's views; without one, list the views and their columns."""
    from flows.corpus.sql import sql as run

    run(corpus, query, snapshot, form or "table")


@click.command()
@CORPUS
@click.option("--snapshot", metavar="vN", help="Default the newest.")
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), help="Folder of the page.")
def report(corpus: str, snapshot: str | None, out: Path) -> None:
    """The corpus in pictures: one HTML page."""
    from flows.corpus.report import report as run

    run(corpus, snapshot, out)


COMMANDS = (sql, report, diff)
"""What ``flows.cli`` adds to the group ``ffavatar``."""
