"""Commands ``ffavatar bench``: one subcommand per subject, each implemented by a module of ``flows.bench``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import click

from flows.cli.options import DATASETS, DEMO_CORPUS, RECIPE_SETTINGS
from infra.settings import MODEL_PRESET


@click.group()
def bench() -> None:
    """Measure, and print figures as JSON, one line each."""


@bench.command("mine")
@click.option("--videos", type=click.Path(path_type=Path), help="Folder of videos; default made samples.")
@click.option("--decode-minutes", default=10.0, show_default=True, help="Repeat them until decoding takes so long.")
@click.option("--plain-seconds", default=120.0, show_default=True, help="Run the plain loop on videos for so long.")
def mine_bench(videos: Path | None, decode_minutes: float, plain_seconds: float) -> None:
    """Measure mining beside decoding alone, and beside insightface on every frame."""
    from flows.bench.bench_mine import bench_mine

    bench_mine(videos, decode_minutes, plain_seconds)


@bench.command("engine")
@click.option("--items", default=(1_000, 10_000, 100_000), show_default=True, multiple=True, type=click.IntRange(1))
def engine_bench(items: Sequence[int]) -> None:
    """Measure the engine's overhead an item, and its memory, with items that need no work."""
    from flows.bench.bench_engine import bench_engine

    bench_engine(items)


@bench.command("plan")
@click.option("--rows", default=1_000_000, show_default=True, type=click.IntRange(1), help="Of the source list.")
@click.option("--known", default=200_000, show_default=True, type=click.IntRange(0), help="Mined already.")
def plan_bench(rows: int, known: int) -> None:
    """Measure the time and the memory of a plan over a long source list."""
    from flows.bench.bench_plan import bench_plan

    bench_plan(rows, known)


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
    help="Default ours and the usual alternatives.",
    type=click.Choice(["ffavatar", "faiss+components", "sklearn-average", "sklearn-hdbscan"]),
)
@click.option("--seed", default=0, show_default=True, help="Of the drawn tracks.")
@click.option(
    "--vectors",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help=".npy (tracks, width), or .npz: vectors, person; optionally video, start, end.",
)
@click.option("--threshold", type=click.FloatRange(0, 2, min_open=True), help="Cosine distance; default calibrated.")
@click.option("--new", default=10_000, show_default=True, type=click.IntRange(0), help="Tracks that join; 0: none.")
def cluster_bench(
    sizes: Sequence[int],
    widths: Sequence[int],
    methods: Sequence[str],
    seed: int,
    vectors: Path | None,
    threshold: float | None,
    new: int,
) -> None:
    """Measure the clustering of drawn people: seconds, memory, BCubed; ours beside the usual alternatives."""
    from flows.bench.bench_cluster import METHODS, bench_cluster

    bench_cluster(sizes, widths, methods or METHODS, seed, vectors, threshold, new)


@bench.command("publish")
@click.option("--people", default=1_000_000, show_default=True, type=click.IntRange(20), help="Drawn, in TMPDIR.")
@click.option("--faces-per-person", default=8, show_default=True, type=click.IntRange(2))
def publish_bench(people: int, faces_per_person: int) -> None:
    """Measure publishing: a first snapshot, other thresholds, one per cent more videos."""
    from flows.bench.bench_publish import bench_publish

    bench_publish(people, faces_per_person)


@bench.command("sql")
@click.option("--people", default=1_250_000, show_default=True, type=click.IntRange(20), help="Drawn, in TMPDIR.")
@click.option("--faces-per-person", default=8, show_default=True, type=click.IntRange(2))
@click.option("--corpus", metavar="URI", help="Ask a published corpus instead of a drawn one.")
@click.option("--s3/--no-s3", default=True, show_default=True, help="Ask a copy on a local S3 server too.")
def sql_bench(people: int, faces_per_person: int, corpus: str | None, s3: bool) -> None:
    """Measure each named question beside the same one by hand in pyarrow, on a disk and from S3."""
    from flows.bench.bench_sql import bench_sql

    bench_sql(people, faces_per_person, corpus, s3)


@bench.command("studio")
@click.option("--assets", type=click.Path(path_type=Path, exists=True, file_okay=False), help="Kit of assets.")
@click.option("--renderer", "renderers", default=("gl", "cpu"), multiple=True, type=click.Choice(("gl", "cpu")))
@click.option("--size", default=512, show_default=True, type=click.IntRange(16), help="Pixels a side.")
@click.option("--people", default=2, show_default=True, type=click.IntRange(1))
def studio_bench(assets: Path | None, renderers: Sequence[Literal["gl", "cpu"]], size: int, people: int) -> None:
    """Measure the renderers of studio people: images a second, the first image of a person, a pose."""
    from flows.bench.bench_studio import bench_open_people

    bench_open_people(assets, renderers, size, people)


@bench.command("convert")
@click.argument("dataset", type=click.Choice(DATASETS))
@click.option("--size", default=512, show_default=True, type=click.IntRange(16), help="Pixels a side of a crop.")
def convert_bench(dataset: str, size: int) -> None:
    """Measure the conversion of DATASET beside plain decoding and encoding of the same images."""
    from flows.bench.bench_convert import bench_convert

    bench_convert(dataset, size)


@bench.command("loader")
@click.option(
    "--corpus",
    "corpora",
    default=[DEMO_CORPUS],
    show_default=True,
    multiple=True,
    metavar="URI",
    help="Published, on a disk or s3://; may be repeated.",
)
@click.option("--stage", type=click.Choice(["pretrain", "multiview"]), default="pretrain", show_default=True)
@click.option(
    "--model", "size", default=MODEL_PRESET, show_default=True, help="Preset of the recipe: images' size, batch."
)
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
    help="Images a second that a step takes; default measured here.",
)
@click.option("--seconds", default=10.0, show_default=True, type=click.FloatRange(0, min_open=True), help="A figure.")
@RECIPE_SETTINGS
@click.option("--head", metavar="FILE", help="Of the step's model: a head file; default the open head.")
def loader_bench(
    corpora: Sequence[str],
    stage: str,
    size: str,
    counts: Sequence[int],
    consumes: float | None,
    seconds: float,
    overrides: Sequence[str],
    head: str | None,
) -> None:
    """Measure images a second of the training loader, a core and in all, beside what a training step consumes."""
    from flows.bench.bench_loader import bench_loader

    bench_loader(corpora, stage, size, counts, consumes, seconds, overrides, head)


def _model_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of the subcommands that measure the model."""
    for option in (
        RECIPE_SETTINGS,
        click.option(
            "--head", metavar="FILE", help="Head file; stand-in: a mesh of FLAME's size; default the open head."
        ),
        click.option("--model", "size", default=MODEL_PRESET, show_default=True, help="Preset: tiny, base or paper."),
    ):
        command = option(command)
    return command


@bench.command("render")
@_model_options
def render_bench(size: str, head: str | None, overrides: Sequence[str]) -> None:
    """Measure images a second of the renderer."""
    from flows.bench.bench_render import bench_render

    bench_render(size, head)


@bench.command("reconstruct")
@_model_options
def reconstruct_bench(size: str, head: str | None, overrides: Sequence[str]) -> None:
    """Measure the reconstruction of an avatar from 1, 4 and 16 photos."""
    from flows.bench.bench_reconstruct import bench_reconstruct

    bench_reconstruct(size, head)


@bench.command("animate")
@_model_options
def animate_bench(size: str, head: str | None, overrides: Sequence[str]) -> None:
    """Measure frames a second of the animation, driven from pixels and from parameters."""
    from flows.bench.bench_animate import bench_animate

    bench_animate(size, head)


@bench.command("personalize")
@_model_options
def personalize_bench(size: str, head: str | None, overrides: Sequence[str]) -> None:
    """Measure 500 steps of personalization (5 without a GPU)."""
    from flows.bench.bench_training import bench_personalize

    bench_personalize(size, head, list(overrides))


@bench.command("train")
@_model_options
def train_bench(size: str, head: str | None, overrides: Sequence[str]) -> None:
    """Measure a training step."""
    from flows.bench.bench_training import bench_train

    bench_train(size, head, list(overrides))


COMMANDS = (bench,)
"""Commands that ``flows.cli`` adds to the group."""
