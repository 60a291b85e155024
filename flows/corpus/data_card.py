"""Command ``ffavatar data-card``: print a snapshot's data card, or write it into a file."""

from __future__ import annotations

from pathlib import Path

import click

from infra.console import say
from infra.storage import open_store
from mfhq.catalog import Catalog
from pipelines.sharing.snapshot_cards import CROISSANT, MARKDOWN, read_card


def data_card_command(corpus: str, version: str | None, croissant: bool, out: Path | None) -> None:
    """Run ``ffavatar data-card``.

    Args:
        corpus: URI of the corpus.
        version: Name of the snapshot; None for the newest.
        croissant: Give the card as Croissant JSON-LD, not as Markdown.
        out: File of the card; None for standard output.

    Raises:
        CatalogError: There is no such snapshot.
        DamagedFileError: The card is missing or damaged.
    """
    snapshot = Catalog(open_store(corpus)).open(version)
    card = read_card(snapshot, CROISSANT if croissant else MARKDOWN)
    if out is None:
        click.echo(card, nl=False)
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_name(f".{out.name}.part")
    part.write_text(card, encoding="utf-8")
    part.replace(out)
    say("data card of {version} in {out}", version=snapshot.version, out=out)
