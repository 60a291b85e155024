"""Options that several commands share."""

from __future__ import annotations

import click

from infra.settings import MAX_FAILURES, TIMEOUT_S

CORPUS = click.option("--corpus", required=True, metavar="URI", help="The corpus: a path, file:// or s3:// URI.")


OFFICIAL = ("ava256", "nersemble", "nersemble-benchmark")
"""Data sets whose layout the studio writes."""


PACK = click.option("--pack", metavar="PACK", help="insightface pack: a name or a folder; default the embedded one.")


HEAD = click.option("--head", metavar="FILE", help="FLAME pickle or head file; default the open head.")


FAILURES = click.option(
    "--max-failures",
    default=MAX_FAILURES,
    show_default=True,
    type=click.IntRange(0),
    help="How often a lost worker or an error restarts it from the last checkpoint.",
)


TIMEOUT = click.option(
    "--timeout",
    "timeout_s",
    default=TIMEOUT_S,
    show_default=True,
    type=click.IntRange(1),
    metavar="SECONDS",
    help="How long workers wait for one another, and for a place.",
)


PRESET = click.option("--preset", default="small", show_default=True, help="Publish thresholds: small or mfhq.")
