"""Options and choices that several commands share."""

from __future__ import annotations

import click

from infra.settings import MAX_FAILURES, PUBLISH_PRESET, TIMEOUT_S

DEMO_CORPUS = "demo/corpus"
"""Corpus that ``ffavatar demo`` makes: the default of commands whose ``--corpus`` is optional."""
DATASETS = ("ava256", "nersemble")
"""Data sets of multi-view captures that can be converted."""
OFFICIAL_LAYOUTS = (*DATASETS, "nersemble-benchmark")
"""Layouts of official data sets that the studio writes."""

PERSONALIZE_STEPS = 60
"""Number of personalization steps that make an avatar recognisable as its person (docs/experiments.md)."""

CORPUS = click.option("--corpus", required=True, metavar="URI", help="The corpus: a path, file:// or s3:// URI.")

SNAPSHOT = click.option("--snapshot", metavar="vN", help="Default the newest.")

PACK = click.option("--pack", metavar="PACK", help="insightface pack: a name or a folder; default the embedded one.")

PRESET = click.option("--preset", default=PUBLISH_PRESET, show_default=True, help="Publish thresholds: small or mfhq.")

HEAD = click.option("--head", metavar="FILE", help="FLAME pickle or head file; default the open head.")

WORKERS = click.option("--workers", default=1, show_default=True, type=click.IntRange(1))

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
    help="How long workers wait for one another, and for their place in the cluster.",
)

RECIPE_SETTINGS = click.option(
    "--set", "overrides", multiple=True, metavar="a.b=c", help="Change a setting of the stage's recipe."
)
