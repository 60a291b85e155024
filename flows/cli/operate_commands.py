"""Commands for operators: this machine, the demo, review and take-down."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import click

from flows.cli.options import CORPUS, PACK
from infra.settings import load_settings


@click.command()
def doctor() -> None:
    """Show what is installed, which weights, which device, what is missing and how to get it."""
    from flows.cli.doctor import doctor_command

    doctor_command(load_settings())


@click.command()
@click.option("-o", "--out", "file", type=click.Path(path_type=Path), help="File to write; default standard output.")
@click.option("--licences", is_flag=True, help="Print a table of packages, weights and their licences instead.")
def sbom(file: Path | None, licences: bool) -> None:
    """Write the software bill of materials of this installation (CycloneDX, JSON)."""
    from flows.cli.sbom import sbom_command

    sbom_command(file, licences)


@click.command()
@click.option("--videos", type=click.Path(path_type=Path), help="Your own folder of videos; default made samples.")
@click.option("-o", "--out", default="demo", show_default=True, type=click.Path(path_type=Path), help="Output folder.")
@click.option("--seconds", default=75.0, show_default=True, help="Training time of each stage.")
def demo(videos: Path | None, out: Path, seconds: float) -> None:
    """Run the whole loop on embedded defaults: videos, corpus, three training stages, avatar, video."""
    from flows.cli.demo import demo_command

    if status := demo_command(out, videos, seconds):
        sys.exit(status)


@click.command()
@CORPUS
@click.option("--reviewer", metavar="NAME", help="Name that signs the decisions; default the user of this machine.")
@click.option("--port", default=0, show_default=True, type=click.IntRange(0, 65535), help="0: any that is free.")
@click.option("--each", default=20, show_default=True, type=click.IntRange(1), help="Most cases of each kind.")
def review(corpus: str, reviewer: str | None, port: int, each: int) -> None:
    """Review the people that most need it: a page on 127.0.0.1; accept, split, merge."""
    from flows.corpus.serve_review import review_command

    review_command(corpus, reviewer, port, each)


@click.command()
@CORPUS
@click.option("--video", "videos", multiple=True, metavar="ID", help="A source file, by its video_id.")
@click.option("--source", "sources", multiple=True, metavar="URI", help="A source file, by its URI.")
@click.option("--identity", "identities", multiple=True, metavar="ID", help="A person, by identity_id.")
@click.option(
    "--photo",
    "photographs",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Everybody who is similar to the face in this photograph.",
)
@PACK
@click.option("--yes", is_flag=True, help="Do not ask.")
def takedown(
    corpus: str,
    videos: Sequence[str],
    sources: Sequence[str],
    identities: Sequence[str],
    photographs: Sequence[Path],
    pack: str | None,
    yes: bool,
) -> None:
    """Take a video, a source or a person out of the corpus for good; with none named, finish earlier take-downs."""
    from flows.corpus.takedown import TakedownTargets, takedown_command

    if status := takedown_command(corpus, TakedownTargets(videos, sources, identities, photographs), pack, yes):
        sys.exit(status)


@click.command()
@CORPUS
@click.option("--deep", is_flag=True, help="Compare the digest of every file, not the size alone.")
def verify(corpus: str, deep: bool) -> None:
    """Check every file of the corpus: what is damaged, what needs it, what to do."""
    from flows.corpus.verify import verify_command

    if status := verify_command(corpus, deep):
        sys.exit(status)


@click.command()
@click.option("--pool", default="ffavatar", show_default=True, help="Work pool; made if it is missing.")
@click.option("--source", metavar="URI", help="Default source of the deployment `mine`.")
@click.option("--corpus", metavar="URI", help="Default corpus of every deployment.")
def deploy(pool: str, source: str | None, corpus: str | None) -> None:
    """Make every flow a deployment of the Prefect server at PREFECT_API_URL; schedules are there, and off."""
    from flows.cli.deployments import deploy_command

    deploy_command(pool, source, corpus)


COMMANDS = (doctor, sbom, demo, review, takedown, verify, deploy)
"""Commands that ``flows.cli`` adds to the group."""
