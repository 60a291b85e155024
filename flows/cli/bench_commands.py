"""``ffavatar bench``: one subcommand a subject."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click


@click.group()
def bench() -> None:
    """Measure, and print figures as JSON, one line each."""


def _bench_model(what: str, help_text: str) -> None:
    """A subcommand that measures the model."""

    @bench.command(what, help=help_text)
    @click.option("--model", "size", default="tiny", show_default=True, help="Preset: tiny, base or paper.")
    @click.option("--head", metavar="FILE", help="Head file; stand-in: a mesh of FLAME's size; default the open head.")
    @click.option("--set", "overrides", multiple=True, metavar="a.b=c", help="Change a setting of the stage's recipe.")
    def measure(size: str, head: str | None, overrides: Sequence[str]) -> None:
        from flows.bench.bench_model import bench_model

        bench_model(what, size, head, list(overrides))


@bench.command("mine")
@click.option("--videos", type=click.Path(path_type=Path), help="Folder of videos; default made samples.")
@click.option("--decode-minutes", default=10.0, show_default=True, help="Repeat them until decoding takes so long.")
@click.option("--plain-seconds", default=120.0, show_default=True, help="Run the plain loop on videos for so long.")
def bench_mine(videos: Path | None, decode_minutes: float, plain_seconds: float) -> None:
    """Mining beside decoding alone, and beside insightface on every frame."""
    from flows.bench.bench_mine import bench_mine as run

    run(videos, decode_minutes, plain_seconds)


@bench.command("engine")
@click.option("--items", default=(1_000, 10_000, 100_000), show_default=True, multiple=True, type=click.IntRange(1))
def bench_engine(items: Sequence[int]) -> None:
    """The engine's overhead an item, and its memory, with items that need no work."""
    from flows.bench.bench_engine import bench_engine as run

    run(items)


@bench.command("plan")
@click.option("--rows", default=1_000_000, show_default=True, type=click.IntRange(1), help="Of the source list.")
@click.option("--known", default=200_000, show_default=True, type=click.IntRange(0), help="Mined already.")
def bench_plan(rows: int, known: int) -> None:
    """A plan over a long source list: its time and its memory."""
    from flows.bench.bench_plan import bench_plan as run

    run(rows, known)


@bench.command("cluster")
@click.option(
    "--tracks",
    "sizes",
    multiple=True,
    type=click.IntRange(1),
    default=[10_000, 100_000, 1_000_000],
    show_default=True,
    help="How many tracks; may be repeated.",
)
@click.option("--width", "widths", multiple=True, type=click.IntRange(32), default=[128, 512], show_default=True)
@click.option(
    "--method",
    "methods",
    multiple=True,
    help="Default ours and what one would take instead.",
    type=click.Choice(["ffavatar", "faiss+components", "sklearn-average", "sklearn-hdbscan"]),
)
@click.option("--seed", default=0, show_default=True, help="Of the drawn tracks.")
@click.option(
    "--vectors",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help=".npy (tracks, width), or .npz: vectors, person; at will video, start, end.",
)
@click.option("--threshold", type=click.FloatRange(0, 2, min_open=True), help="Cosine distance; default calibrated.")
@click.option("--new", default=10_000, show_default=True, type=click.IntRange(0), help="Tracks that join; 0: none.")
def bench_cluster(
    sizes: Sequence[int],
    widths: Sequence[int],
    methods: Sequence[str],
    seed: int,
    vectors: Path | None,
    threshold: float | None,
    new: int,
) -> None:
    """Tell drawn people apart: seconds, memory, BCubed; ours, and what one would take instead."""
    from flows.bench.bench_cluster import METHODS
    from flows.bench.bench_cluster import bench_cluster as run

    run(sizes, widths, methods or METHODS, seed, vectors, threshold, new)


@bench.command("loader")
@click.option(
    "--corpus",
    "corpora",
    default=["demo/corpus"],
    show_default=True,
    multiple=True,
    metavar="URI",
    help="Published, on a disk or s3://; may be repeated.",
)
@click.option("--stage", type=click.Choice(["pretrain", "multiview"]), default="pretrain", show_default=True)
@click.option("--model", "size", default="tiny", show_default=True, help="Preset of the recipe: pictures' size, batch.")
@click.option(
    "--workers",
    "counts",
    default=[0, 1, 2],
    show_default=True,
    multiple=True,
    type=click.IntRange(0),
    help="Loader processes.",
)
@click.option(
    "--consumes",
    type=click.FloatRange(0, min_open=True),
    metavar="RATE",
    help="Pictures a second that a step takes; default measured here.",
)
@click.option("--seconds", default=10.0, show_default=True, type=click.FloatRange(0, min_open=True), help="A figure.")
@click.option("--set", "overrides", multiple=True, metavar="a.b=c", help="Change a setting of the stage's recipe.")
@click.option("--head", metavar="FILE", help="Of the step's model: a head file; default the open head.")
def bench_loader(
    corpora: Sequence[str],
    stage: str,
    size: str,
    counts: Sequence[int],
    consumes: float | None,
    seconds: float,
    overrides: Sequence[str],
    head: str | None,
) -> None:
    """Pictures a second of the training loader, a core and in all, beside what a training step consumes."""
    from flows.bench.bench_loader import bench_loader as run

    run(corpora, stage, size, counts, consumes, seconds, overrides, head)


@bench.command("convert")
@click.argument("dataset", type=click.Choice(["ava256", "nersemble"]))
@click.option("--size", default=512, show_default=True, type=click.IntRange(16), help="Pixels a side of a crop.")
def bench_convert(dataset: str, size: int) -> None:
    """Conversion of DATASET beside plain decoding and writing again of the same pictures."""
    from flows.bench.bench_convert import bench_convert as run

    run(dataset, size)


_bench_model("render", "Pictures a second of the renderer.")
_bench_model("reconstruct", "From 1, 4 and 16 photos to an avatar.")
_bench_model("animate", "Frames a second, driven from pixels and from parameters.")
_bench_model("personalize", "500 steps of personalization (5 without a GPU).")
_bench_model("train", "A training step.")


COMMANDS = (bench,)
"""What ``flows.cli`` adds to the group ``ffavatar``."""
