"""Commands for passing a corpus on: its data card, and exports in the formats of other libraries."""

from __future__ import annotations

from pathlib import Path

import click

from flows.cli.options import CORPUS, SNAPSHOT


@click.command("data-card")
@CORPUS
@SNAPSHOT
@click.option("--croissant", is_flag=True, help="Croissant JSON-LD instead of Markdown.")
@click.option("-o", "--out", type=click.Path(path_type=Path, dir_okay=False), help="File; default standard output.")
def data_card(corpus: str, snapshot: str | None, croissant: bool, out: Path | None) -> None:
    """Print what a snapshot holds, under which rights, and its known limits."""
    from flows.corpus.data_card import data_card_command

    data_card_command(corpus, snapshot, croissant, out)


@click.command("export-corpus")
@CORPUS
@SNAPSHOT
@click.option(
    "--format", "form", required=True, type=click.Choice(["webdataset", "lance", "hf"]), help="Format of the export."
)
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), help="Folder of the export; new or empty.")
@click.option("--meshes", is_flag=True, help="Also the 468 points of each face, pixels of its crop.")
@click.option("--biometric", is_flag=True, help="Also each face's embedding, which identifies the person.")
@click.option("--unclear", is_flag=True, help="Also faces of files whose licence is not stated or not recognised.")
@click.option(
    "--shard", default=10_000, show_default=True, type=click.IntRange(1), metavar="FACES", help="Faces of one file."
)
def export_corpus(
    corpus: str,
    snapshot: str | None,
    form: str,
    out: Path,
    meshes: bool,
    biometric: bool,
    unclear: bool,
    shard: int,
) -> None:
    """Write the chosen faces for training elsewhere, as far as licences and consent allow.

    The folder has people, splits, crops, mattes, landmarks, poses and licences, a README and a digest list. It appears
    when all is written. The corpus records the export as a run, which a later take-down names.
    """
    from flows.corpus.export_corpus import export_corpus_command
    from pipelines.sharing.exported_faces import Selection

    selection = Selection(meshes=meshes, biometric=biometric, unclear=unclear, faces_per_shard=shard)
    export_corpus_command(corpus, snapshot, form, out, selection)


COMMANDS = (data_card, export_corpus)
"""Commands that ``flows.cli`` adds to the group."""
