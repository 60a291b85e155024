"""Commands for data engineers, from source files to a published corpus."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import click

from flows.cli.options import CORPUS, DATASETS, OFFICIAL_LAYOUTS, PACK, PRESET

FOLDER = click.Path(path_type=Path, file_okay=False)
EXISTING = click.Path(path_type=Path, file_okay=False, exists=True)


@click.command()
@click.argument("source")
@CORPUS
@PACK
@PRESET
@click.option(
    "--decoder", type=click.Choice(["pyav", "decord"]), default="pyav", help="Library; decord where it can be trusted."
)
@click.option(
    "--decode-limit",
    type=click.FloatRange(1),
    default=1800.0,
    help="Seconds to decode a short file; a long one gets more.",
)
def mine(source: str, corpus: str, pack: str | None, preset: str, decoder: str, decode_limit: float) -> None:
    """Ingest SOURCE (a folder, an s3:// prefix, or a txt, csv or parquet list) up to a published snapshot."""
    from flows.mine import mine_command

    if status := mine_command(source, corpus, pack, preset, decoder, decode_limit):
        sys.exit(status)


@click.command()
@click.argument("source")
@CORPUS
@PACK
@click.option("--workers", type=click.IntRange(1), help="Say when so many would be done; default this machine's cores.")
def plan(source: str, corpus: str, pack: str | None, workers: int | None) -> None:
    """Show what mining SOURCE would do: pending items a step, measured cost, bytes, time; runs nothing."""
    from flows.corpus.show_plan import plan_command

    plan_command(source, corpus, pack, workers)


@click.command()
@CORPUS
@PACK
@click.option("--full", is_flag=True, help="Cluster everything anew, instead of joining new tracks to people.")
def cluster(corpus: str, pack: str | None, full: bool) -> None:
    """Group the tracks of a corpus by person; publish uses the result."""
    from flows.cluster import cluster_command

    cluster_command(corpus, pack, full)


@click.command()
@click.argument("pairs", type=click.Path(path_type=Path))
@PACK
@click.option("--people", default=10_000, show_default=True, type=click.IntRange(2), help="In the corpus to cluster.")
def calibrate(pairs: Path, pack: str | None, people: int) -> None:
    """Measure a face pack's threshold on PAIRS (a folder a person, or a csv: a, b, same); stored with the pack."""
    from flows.corpus.calibrate import calibrate_command

    calibrate_command(pairs, pack, people)


@click.command()
@click.argument("source", required=False)
@CORPUS
@PACK
def overlap(source: str | None, corpus: str, pack: str | None) -> None:
    """Find people in two splits, or in SOURCE too (a folder of stills, or another corpus), by embedding."""
    from flows.corpus.overlap import overlap_command

    if status := overlap_command(source, corpus, pack):
        sys.exit(status)


@click.command()
@CORPUS
@PRESET
@PACK
@click.option("--where", metavar="SQL", help="A condition on the faces, and on the columns of their videos.")
def publish(corpus: str, preset: str, pack: str | None, where: str | None) -> None:
    """Cluster what has been mined and publish a snapshot: other thresholds, no inference."""
    from flows.publish import publish_command

    publish_command(corpus, preset, pack, where)


@click.command()
@CORPUS
@click.option("--size", required=True, type=click.IntRange(32, 4096), help="Pixels of the crops' side, at most.")
def recrop(corpus: str, size: int) -> None:
    """Cut the newest snapshot's faces anew from their source files, and publish them."""
    from flows.recrop import recrop_command

    if status := recrop_command(corpus, size):
        sys.exit(status)


@click.command()
@CORPUS
@click.option(
    "--where",
    default="true",
    show_default=True,
    metavar="SQL",
    help="Which failed items: on item_id, uri, step, reason, attempts, error.",
)
@PRESET
@PACK
def retry(corpus: str, where: str, preset: str, pack: str | None) -> None:
    """Try failed items again, three times at most, and publish."""
    from flows.retry import retry_command

    if status := retry_command(corpus, where, pack, preset):
        sys.exit(status)


@click.command()
@click.argument("item")
@click.option("--step", required=True, help="probe, tracks, scores or embeddings.")
@CORPUS
@PACK
def replay(item: str, step: str, corpus: str, pack: str | None) -> None:
    """Run one step on ITEM (a video's id or URI) here, and show what is on record beside it; writes nothing."""
    from flows.corpus.replay_item import replay_command

    if status := replay_command(item, step, corpus, pack):
        sys.exit(status)


@click.command()
@click.argument("dataset", type=click.Choice(DATASETS))
@click.argument("source")
@CORPUS
@click.option("--size", type=click.IntRange(16), help="Pixels a side of the head-centred images; default 512.")
@click.option("--every", type=click.IntRange(1), help="Convert each N-th frame of a segment; default every one.")
@click.option("--set", "overrides", multiple=True, metavar="a=b", help="Change another setting of the conversion.")
def convert(
    dataset: str, source: str, corpus: str, size: int | None, every: int | None, overrides: Sequence[str]
) -> None:
    """Convert the official captures of DATASET in SOURCE, as they were downloaded, up to a published snapshot."""
    from flows.convert import convert_command

    named = [f"{name}={value}" for name, value in (("size", size), ("every", every)) if value is not None]
    if status := convert_command(dataset, source, corpus, [*named, *overrides]):
        sys.exit(status)


@click.command()
@click.option(
    "--layout",
    type=click.Choice(["mfhq", "captures", *OFFICIAL_LAYOUTS]),
    help="mfhq: videos of talking heads; captures: a corpus of views; or an official layout.",
)
@click.option("--report", type=FOLDER, metavar="DIR", help="Judge rendered people by the face stack, and write this.")
@click.option(
    "--people",
    type=click.Choice(["painted", "open", "ict", "valid"]),
    default="open",
    help="Source of people; ict and valid need --assets, painted and valid are for --report alone.",
)
@click.option("--clips", type=EXISTING, metavar="DIR", help="Real videos to compare with (--report).")
@click.option(
    "--assets",
    type=EXISTING,
    metavar="DIR",
    help="Kit of skins, hair, lights and networks that score.",
)
@click.option("--identities", default=4, show_default=True, type=click.IntRange(1))
@click.option("--cameras", default=6, show_default=True, type=click.IntRange(1), help="Not for mfhq.")
@click.option("--moments", default=2, show_default=True, type=click.IntRange(1), help="Not for mfhq: timesteps each.")
@click.option("--seconds", default=4.0, show_default=True, help="mfhq only: length of each video.")
@click.option(
    "--size",
    default=256,
    show_default=True,
    type=click.IntRange(32),
    help="Pixels; of ava256 and nersemble the image's height.",
)
@click.option("--seed", default=0, show_default=True)
@click.option("-o", "--out", metavar="DIR", help="Folder of the videos, or URI of the corpus.")
def studio(
    layout: str | None,
    report: Path | None,
    people: Literal["painted", "open", "ict", "valid"],
    clips: Path | None,
    assets: Path | None,
    identities: int,
    cameras: int,
    moments: int,
    seconds: float,
    size: int,
    seed: int,
    out: str | None,
) -> None:
    """Render captures of the open head with their ground truth, or judge rendered people."""
    if report:
        from flows.corpus.studio_report import report_command

        report_command(report, people, clips, assets, identities, seed)
        return
    if layout is None or out is None:
        raise click.UsageError("Missing option '--layout' or '-o': give both, or --report DIR.")
    if people == "painted":
        raise click.UsageError(
            "people 'painted' are judged alone: name open or ict with --people, or give --report DIR."
        )
    if layout in OFFICIAL_LAYOUTS:
        from flows.corpus.studio_layouts import layout_command

        layout_command(layout, identities, cameras, moments, size, seed, out, people, assets)
        return
    from flows.captures import studio_command

    studio_command(layout, identities, cameras, moments, seconds, size, seed, out, people, assets)


COMMANDS = (mine, plan, cluster, calibrate, overlap, publish, recrop, retry, replay, convert, studio)
"""Commands that ``flows.cli`` adds to the group."""
