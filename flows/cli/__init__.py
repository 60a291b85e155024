"""The command line ``ffavatar``. Each command imports what it needs when it runs: start-up stays quick, and
commands that need no Ray, Prefect, MLflow or DuckDB run where those are not installed."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import click

from flows.console import WRONG_CALL, err, report_error, start_log
from infra.settings import MAX_FAILURES, TIMEOUT_S, load_settings, quiet_services

CORPUS = click.option("--corpus", required=True, metavar="URI", help="The corpus: a path, file:// or s3:// URI.")
OFFICIAL = ("ava256", "nersemble", "nersemble-benchmark")
"""Data sets whose layout the studio writes."""
PACK = click.option("--pack", metavar="PACK", help="insightface pack: a name or a folder; default the embedded one.")
HEAD = click.option("--head", metavar="FILE", help="FLAME pickle or head file; default the open head.")
FAILURES = click.option("--max-failures", default=MAX_FAILURES, show_default=True, type=click.IntRange(0),
                        help="How often a lost worker or an error restarts it from the last checkpoint.")  # fmt: skip
TIMEOUT = click.option("--timeout", "timeout_s", default=TIMEOUT_S, show_default=True, type=click.IntRange(1),
                       metavar="SECONDS", help="How long workers wait for one another, and for a place.")  # fmt: skip
PRESET = click.option("--preset", default="small", show_default=True, help="Publish thresholds: small or mfhq.")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="ffavatar")
def cli() -> None:
    """From in-the-wild video to a face corpus, and from photos to an animatable 3D Gaussian head."""


@cli.command()
def doctor() -> None:
    """What is installed, which weights, which device, what is missing and how to get it."""
    from flows.doctor import doctor as run

    run(load_settings())


@cli.command()
@click.option("--videos", type=click.Path(path_type=Path), help="Your own folder of videos; default made samples.")
@click.option("-o", "--out", default="demo", show_default=True, type=click.Path(path_type=Path), help="Output folder.")
@click.option("--seconds", default=75.0, show_default=True, help="Training time of each stage.")
def demo(videos: Path | None, out: Path, seconds: float) -> None:
    """The whole loop, on embedded defaults: videos, corpus, three training stages, avatar, video."""
    from flows.demo import demo as run

    if status := run(out, videos, seconds):
        sys.exit(status)


@cli.command()
@click.argument("source")
@CORPUS
@PACK
@PRESET
def mine(source: str, corpus: str, pack: str | None, preset: str) -> None:
    """Ingest SOURCE (a folder, an s3:// prefix, or a txt, csv or parquet list) up to a published snapshot."""
    from flows.mine import mine_command

    if status := mine_command(source, corpus, pack, preset):
        sys.exit(status)


@cli.command()
@click.argument("source")
@CORPUS
@PACK
@click.option("--workers", type=click.IntRange(1), help="Say when so many would be done; default this machine's cores.")
def plan(source: str, corpus: str, pack: str | None, workers: int | None) -> None:
    """What mining SOURCE would do: pending items a step, measured cost, bytes, time; runs nothing."""
    from flows.plan import plan_command

    plan_command(source, corpus, pack, workers)


@cli.command()
@CORPUS
@PACK
@click.option("--full", is_flag=True, help="Cluster everything anew, instead of joining new tracks to people.")
def cluster(corpus: str, pack: str | None, full: bool) -> None:
    """Tell the people of a corpus apart; publish uses the result."""
    from flows.clustering import cluster_command

    cluster_command(corpus, pack, full)


@cli.command()
@click.argument("pairs", type=click.Path(path_type=Path))
@PACK
@click.option("--people", default=10_000, show_default=True, type=click.IntRange(2), help="In the corpus to cluster.")
def calibrate(pairs: Path, pack: str | None, people: int) -> None:
    """Measure a face pack's threshold on PAIRS (a folder a person, or a csv: a, b, same); stored with the pack."""
    from flows.calibration import calibrate_command

    calibrate_command(pairs, pack, people)


@cli.command()
@click.argument("source", required=False)
@CORPUS
@PACK
def overlap(source: str | None, corpus: str, pack: str | None) -> None:
    """Is somebody in two splits, or in SOURCE too (a folder of stills, or another corpus)? By embedding."""
    from flows.overlap import overlap_command

    if status := overlap_command(source, corpus, pack):
        sys.exit(status)


@cli.command()
@CORPUS
@PRESET
@PACK
@click.option("--where", metavar="SQL", help="A condition on the faces, and on the columns of their videos.")
def publish(corpus: str, preset: str, pack: str | None, where: str | None) -> None:
    """Cluster what has been mined and publish a snapshot: other thresholds, no inference."""
    from flows.mine import publish_command

    publish_command(corpus, preset, pack, where)


@cli.command()
@CORPUS
@click.option("--size", required=True, type=click.IntRange(32, 4096), help="Pixels of the crops' side, at most.")
def recrop(corpus: str, size: int) -> None:
    """Cut the newest snapshot's faces anew from their source files, and publish them."""
    from flows.recrop import recrop_command

    if status := recrop_command(corpus, size):
        sys.exit(status)


@cli.command()
@CORPUS
@click.option("--where", default="true", show_default=True, metavar="SQL",
              help="Which failed items: on item_id, uri, step, reason, attempts, error.")  # fmt: skip
@PRESET
@PACK
def retry(corpus: str, where: str, preset: str, pack: str | None) -> None:
    """Try failed items again, three times at most, and publish."""
    from flows.retry import retry_command

    if status := retry_command(corpus, where, pack, preset):
        sys.exit(status)


@cli.command()
@click.argument("item")
@click.option("--step", required=True, help="probe, tracks, scores or embeddings.")
@CORPUS
@PACK
def replay(item: str, step: str, corpus: str, pack: str | None) -> None:
    """Run one step on ITEM (a video's id or URI) here, and show what is on record beside it; writes nothing."""
    from flows.retry import replay_command

    if status := replay_command(item, step, corpus, pack):
        sys.exit(status)


@cli.command()
@click.argument("before", metavar="vA")
@click.argument("after", metavar="vB")
@CORPUS
def diff(before: str, after: str, corpus: str) -> None:
    """What changed from snapshot vA to vB."""
    from flows.diff import diff_command

    diff_command(before, after, corpus)


@cli.command()
@CORPUS
@click.option("--reviewer", metavar="NAME", help="Who signs the decisions; default the user of this machine.")
@click.option("--port", default=0, show_default=True, type=click.IntRange(0, 65535), help="0: any that is free.")
@click.option("--each", default=20, show_default=True, type=click.IntRange(1), help="Most cases of each kind.")
def review(corpus: str, reviewer: str | None, port: int, each: int) -> None:
    """Look over the people that most deserve an eye: a page on 127.0.0.1; accept, split, merge."""
    from flows.review import review_command

    review_command(corpus, reviewer, port, each)


@cli.command()
@CORPUS
@click.option("--video", "videos", multiple=True, metavar="ID", help="A source file, by its video_id.")
@click.option("--source", "sources", multiple=True, metavar="URI", help="A source file, by where it was found.")
@click.option("--identity", "identities", multiple=True, metavar="ID", help="A person, by identity_id.")
@click.option("--photo", "photographs", multiple=True, type=click.Path(path_type=Path),
              help="Whoever looks like the face in this photograph.")  # fmt: skip
@PACK
@click.option("--yes", is_flag=True, help="Do not ask.")
def takedown(
    corpus: str, videos: Sequence[str], sources: Sequence[str], identities: Sequence[str],
    photographs: Sequence[Path], pack: str | None, yes: bool,
) -> None:  # fmt: skip
    """Take a video, a source or a person out of the corpus for good; with none named, finish what was begun."""
    from flows.takedown import Named, takedown_command

    if status := takedown_command(corpus, Named(videos, sources, identities, photographs), pack, yes):
        sys.exit(status)


@cli.command()
@click.argument("query", required=False)
@click.option("--corpus", default="demo/corpus", show_default=True, metavar="URI", help="The corpus.")
@click.option("--snapshot", metavar="vN", help="Default the newest.")
@click.option("--csv", "form", flag_value="csv", help="Print CSV.")
@click.option("--json", "form", flag_value="json", help="Print JSON lines.")
def sql(query: str | None, corpus: str, snapshot: str | None, form: str | None) -> None:
    """Answer QUERY over a corpus's views; without one, list the views and their columns."""
    from flows.sql import sql as run

    run(corpus, query, snapshot, form or "table")


@cli.command()
@CORPUS
@click.option("--snapshot", metavar="vN", help="Default the newest.")
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), help="Folder of the page.")
def report(corpus: str, snapshot: str | None, out: Path) -> None:
    """The corpus in pictures: one HTML page."""
    from flows.report import report as run

    run(corpus, snapshot, out)


@cli.command()
@click.argument("dataset", type=click.Choice(["ava256", "nersemble"]))
@click.argument("source")
@CORPUS
@click.option("--size", type=click.IntRange(16), help="Pixels a side of the head-centred pictures; default 512.")
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


@cli.command()
@click.option("--layout", type=click.Choice(["mfhq", "captures", *OFFICIAL]), required=True,
              help="mfhq: videos of talking heads; captures: a corpus of views; or an official layout.")  # fmt: skip
@click.option("--identities", default=4, show_default=True, type=click.IntRange(1))
@click.option("--cameras", default=6, show_default=True, type=click.IntRange(1), help="Not for mfhq.")
@click.option("--moments", default=2, show_default=True, type=click.IntRange(1), help="Not for mfhq: frames each.")
@click.option("--seconds", default=4.0, show_default=True, help="mfhq only: length of each video.")
@click.option("--size", default=256, show_default=True, type=click.IntRange(32),
              help="Pixels; of ava256 and nersemble the picture's height.")  # fmt: skip
@click.option("--seed", default=0, show_default=True)
@click.option("-o", "--out", required=True, metavar="DIR", help="Folder of the videos, or URI of the corpus.")
def studio(
    layout: str, identities: int, cameras: int, moments: int, seconds: float, size: int, seed: int, out: str
) -> None:
    """Render captures of the open head, with their truth."""
    if layout in OFFICIAL:
        from flows.layouts import layout_command

        layout_command(layout, identities, cameras, moments, size, seed, out)
        return
    from flows.studio import studio_command

    studio_command(layout, identities, cameras, moments, seconds, size, seed, out)


@cli.command()
@click.argument("stage", type=click.Choice(["pretrain", "multiview", "personalize"]))
@CORPUS
@click.option("--init", metavar="CHECKPOINT", help="Start from these weights.")
@click.option("--identity", metavar="ID", help="personalize: the person.")
@click.option("--workers", default=1, show_default=True, type=click.IntRange(1))
@click.option("--set", "overrides", multiple=True, metavar="a.b=c", help="Change a setting of the recipe.")
@click.option("-o", "--out", type=click.Path(path_type=Path), help="Where the checkpoint is written.")
@click.option("--resume", metavar="RUN", help="Go on with this run of the same settings, also on fewer workers.")
@FAILURES
@TIMEOUT
@HEAD
def train(
    stage: str, corpus: str, init: str | None, identity: str | None, workers: int, overrides: Sequence[str],
    out: Path | None, resume: str | None, max_failures: int, timeout_s: int, head: str | None,
) -> None:  # fmt: skip
    """Run a training STAGE as a Ray Train job."""
    from flows.train import train_command

    settings = list(overrides)
    train_command(stage, corpus, init, identity, workers, settings, out, head, resume, max_failures, timeout_s)


@cli.command()
@click.argument("file", required=False)
@click.option("--teeth", is_flag=True, help="Add two rows of teeth behind the lips, the lower one on the jaw.")
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), help="The head file (.safetensors).")
def head(file: str | None, teeth: bool, out: Path) -> None:
    """Write the head model FILE (a FLAME pickle; default the open head) as a head file, its landmarks found."""
    from flows.heads import head_command

    head_command(file, teeth, out)


@cli.command()
@CORPUS
@click.option("--captures", required=True, metavar="URI", help="The corpus of calibrated captures, for multiview.")
@click.option("--identity", metavar="ID", help="Whom to personalize for; default who has most pictures.")
@click.option("--init", metavar="CHECKPOINT", help="What pretraining begins with; default random weights.")
@click.option("--model", "size", default="tiny", show_default=True, help="Preset of the model; with --init its own.")
@click.option("--workers", default=1, show_default=True, type=click.IntRange(1))
@click.option("--gain", default=0.0, show_default=True, metavar="DB",
              help="By how much each stage has to raise the held-out PSNR for the next one to begin.")  # fmt: skip
@click.option("--set", "overrides", multiple=True, metavar="STAGE.a.b=c", help="Change a setting of one stage, or all.")
@FAILURES
@TIMEOUT
@HEAD
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), help="Folder of the checkpoints.")
def curriculum(
    corpus: str, captures: str, identity: str | None, init: str | None, size: str, workers: int, gain: float,
    overrides: Sequence[str], max_failures: int, timeout_s: int, head: str | None, out: Path,
) -> None:  # fmt: skip
    """Train the three stages, one after the other, from the first that has not passed yet."""
    from flows.curriculum import curriculum_command

    settings = (max_failures, timeout_s)
    curriculum_command(corpus, captures, identity, init, size, workers, gain, overrides, head, out, *settings)


@cli.command()
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.option("--corpus", metavar="URI", help="Measure on this corpus's held-out people.")
@click.option("--snapshot", metavar="vN", help="Of the corpus; default the newest.")
@click.option("--people", default=64, show_default=True, type=click.IntRange(1), help="Held-out people, at most.")
@click.option("--lpips", type=click.Path(path_type=Path), help="Weights of LPIPS; without them, no LPIPS.")
@click.option("--nersemble-benchmark", type=click.Path(path_type=Path), metavar="DIR",
              help="Render the benchmark's hold-out views into submissions, a zip a task.")  # fmt: skip
@click.option("--head", type=click.Path(path_type=Path), metavar="FILE",
              help="The checkpoint's FLAME file: the benchmark's parameters are in its frame.")  # fmt: skip
@PACK
@click.option("-o", "--out", type=click.Path(path_type=Path), help="Folder of evaluation.json, or of the submissions.")
def evaluate(
    checkpoint: Path, corpus: str | None, snapshot: str | None, people: int, lpips: Path | None,
    nersemble_benchmark: Path | None, head: Path | None, pack: str | None, out: Path | None,
) -> None:  # fmt: skip
    """Measure CHECKPOINT on people held out (--corpus): self- and cross-reenactment, baselines, intervals over people;
    or render submissions to the NeRSemble benchmark, whose organisers measure them."""
    if corpus is None and nersemble_benchmark is None:
        raise click.UsageError("nothing to evaluate on: give --corpus URI or --nersemble-benchmark DIR")
    if nersemble_benchmark is not None and out is None:
        raise click.UsageError("submissions are files: give -o DIR")
    if corpus is not None:
        from flows.evaluation import evaluate_corpus_command

        evaluate_corpus_command(checkpoint, corpus, snapshot, people, pack, lpips, out)
    if nersemble_benchmark is not None and out is not None:
        from flows.benchmark import benchmark_command

        if status := benchmark_command(checkpoint, nersemble_benchmark, head, pack, out):
            sys.exit(status)


@cli.command()
@click.argument("images", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--checkpoint", type=click.Path(path_type=Path), help="Default the small model that comes with the code.")
@click.option("--personalize", metavar="N", default=0, type=click.IntRange(0),
              help="First fit the person's own Gaussians to the photos, in N steps (500 are the paper's).")  # fmt: skip
@click.option("--face", type=click.IntRange(1), help="Which face of a photo with several, from the left.")
@PACK
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), help="The avatar file.")
def reconstruct(
    images: Sequence[Path], checkpoint: Path | None, personalize: int, face: int | None, pack: str | None, out: Path
) -> None:
    """From IMAGES of one person to an avatar, in one forward pass."""
    from flows.avatars import reconstruct_command

    reconstruct_command(list(images), checkpoint, personalize, face, pack, out)


@cli.command()
@click.argument("avatar", type=click.Path(path_type=Path))
@click.option("--driver", required=True, metavar="VIDEO|INDEX|-", help="A video of a face, a camera's index, or - for "
              "raw frames on standard input (y4m).")  # fmt: skip
@click.option("--checkpoint", type=click.Path(path_type=Path), help="Estimator; default the avatar's own checkpoint.")
@click.option("--smooth", is_flag=True, help="Steady what the estimator says (a one-euro filter).")
@PACK
@click.option("-o", "--out", required=True, metavar="MP4|-", help="The video, driver | avatar; - is raw frames (y4m).")
def animate(avatar: Path, driver: str, checkpoint: Path | None, smooth: bool, pack: str | None, out: str) -> None:
    """Drive AVATAR by a face, frame by frame."""
    from flows.animation import animate_command

    animate_command(avatar, driver, checkpoint, pack, smooth, out)


@cli.command()
@click.argument("avatar", type=click.Path(path_type=Path))
@click.option("-o", "--out", type=click.Path(path_type=Path), help="A .ply file; with --driver a folder of them.")
@click.option("--html", "page", type=click.Path(path_type=Path), help="One page that moves the avatar in any browser.")
@click.option("--driver", metavar="VIDEO", help="The avatar as this video drives it.")
@click.option("--checkpoint", type=click.Path(path_type=Path), help="Estimator; default the avatar's own checkpoint.")
@PACK
def export(
    avatar: Path, out: Path | None, page: Path | None, driver: str | None, checkpoint: Path | None, pack: str | None
) -> None:
    """Write AVATAR for 3D Gaussian viewers, at rest or one file a frame, or as a page that animates it."""
    from flows.exports import export_command

    export_command(avatar, out, page, driver, checkpoint, pack)


@cli.command()
@click.argument("avatar", type=click.Path(path_type=Path))
@click.option("--driver", metavar="VIDEO|INDEX|-", help="A face that drives it: as for animate.")
@click.option("--smooth", is_flag=True, help="Steady what the estimator says (a one-euro filter).")
@click.option("--checkpoint", type=click.Path(path_type=Path), help="Estimator; default the avatar's own checkpoint.")
@PACK
@click.option("--port", default=0, show_default=True, type=click.IntRange(0, 65535), help="0: any that is free.")
def view(
    avatar: Path, driver: str | None, smooth: bool, checkpoint: Path | None, pack: str | None, port: int
) -> None:
    """Look at AVATAR in a browser: a page on 127.0.0.1 with sliders and, if given, a driver."""
    from flows.viewing import view_command

    view_command(avatar, driver, smooth, checkpoint, pack, port)


@cli.group()
def bench() -> None:
    """Measure, and print figures as JSON, one line each."""


def _bench_model(what: str, help_text: str) -> None:
    """A subcommand that measures the model."""

    @bench.command(what, help=help_text)
    @click.option("--model", "size", default="tiny", show_default=True, help="Preset: tiny, base or paper.")
    @click.option("--head", metavar="FILE", help="Head file; stand-in: a mesh of FLAME's size; default the open head.")
    @click.option("--set", "overrides", multiple=True, metavar="a.b=c", help="Change a setting of the stage's recipe.")
    def measure(size: str, head: str | None, overrides: Sequence[str]) -> None:
        from flows.bench.model import bench_model

        bench_model(what, size, head, list(overrides))


_bench_model("render", "Pictures a second of the renderer.")
_bench_model("reconstruct", "From 1, 4 and 16 photos to an avatar.")
_bench_model("animate", "Frames a second, driven from pixels and from parameters.")
_bench_model("personalize", "500 steps of personalization (5 without a GPU).")
_bench_model("train", "A training step.")


@bench.command("mine")
@click.option("--videos", type=click.Path(path_type=Path), help="Folder of videos; default made samples.")
@click.option("--decode-minutes", default=10.0, show_default=True, help="Repeat them until decoding takes so long.")
@click.option("--plain-seconds", default=120.0, show_default=True, help="Run the plain loop on videos for so long.")
def bench_mine(videos: Path | None, decode_minutes: float, plain_seconds: float) -> None:
    """Mining beside decoding alone, and beside insightface on every frame."""
    from flows.bench.mine import bench_mine as run

    run(videos, decode_minutes, plain_seconds)


@bench.command("engine")
@click.option("--items", default=(1_000, 10_000, 100_000), show_default=True, multiple=True, type=click.IntRange(1))
def bench_engine(items: Sequence[int]) -> None:
    """The engine's overhead an item, and its memory, with items that need no work."""
    from flows.bench.engine import bench_engine as run

    run(items)


@bench.command("plan")
@click.option("--rows", default=1_000_000, show_default=True, type=click.IntRange(1), help="Of the source list.")
@click.option("--known", default=200_000, show_default=True, type=click.IntRange(0), help="Mined already.")
def bench_plan(rows: int, known: int) -> None:
    """A plan over a long source list: its time and its memory."""
    from flows.bench.plan import bench_plan as run

    run(rows, known)


@bench.command("cluster")
@click.option("--tracks", "sizes", multiple=True, type=click.IntRange(1), default=[10_000, 100_000, 1_000_000],
              show_default=True, help="How many tracks; may be repeated.")  # fmt: skip
@click.option("--width", "widths", multiple=True, type=click.IntRange(32), default=[128, 512], show_default=True)
@click.option("--method", "methods", multiple=True, help="Default ours and what one would take instead.",
              type=click.Choice(["ffavatar", "faiss+components", "sklearn-average", "sklearn-hdbscan"]))  # fmt: skip
@click.option("--seed", default=0, show_default=True, help="Of the drawn tracks.")
@click.option("--vectors", type=click.Path(path_type=Path, exists=True, dir_okay=False),
              help=".npy (tracks, width), or .npz: vectors, person; at will video, start, end.")  # fmt: skip
@click.option("--threshold", type=click.FloatRange(0, 2, min_open=True), help="Cosine distance; default calibrated.")
@click.option("--new", default=10_000, show_default=True, type=click.IntRange(0), help="Tracks that join; 0: none.")
def bench_cluster(
    sizes: Sequence[int], widths: Sequence[int], methods: Sequence[str], seed: int, vectors: Path | None,
    threshold: float | None, new: int,
) -> None:  # fmt: skip
    """Tell drawn people apart: seconds, memory, BCubed; ours, and what one would take instead."""
    from flows.bench.cluster import METHODS
    from flows.bench.cluster import bench_cluster as run

    run(sizes, widths, methods or METHODS, seed, vectors, threshold, new)


@bench.command("loader")
@click.option("--corpus", "corpora", default=["demo/corpus"], show_default=True, multiple=True, metavar="URI",
              help="Published, on a disk or s3://; may be repeated.")  # fmt: skip
@click.option("--stage", type=click.Choice(["pretrain", "multiview"]), default="pretrain", show_default=True)
@click.option("--model", "size", default="tiny", show_default=True, help="Preset of the recipe: pictures' size, batch.")
@click.option("--workers", "counts", default=[0, 1, 2], show_default=True, multiple=True, type=click.IntRange(0),
              help="Loader processes.")  # fmt: skip
@click.option("--consumes", type=click.FloatRange(0, min_open=True), metavar="RATE",
              help="Pictures a second that a step takes; default measured here.")  # fmt: skip
@click.option("--seconds", default=10.0, show_default=True, type=click.FloatRange(0, min_open=True), help="A figure.")
@click.option("--set", "overrides", multiple=True, metavar="a.b=c", help="Change a setting of the stage's recipe.")
@click.option("--head", metavar="FILE", help="Of the step's model: a head file; default the open head.")
def bench_loader(
    corpora: Sequence[str], stage: str, size: str, counts: Sequence[int], consumes: float | None, seconds: float,
    overrides: Sequence[str], head: str | None,
) -> None:  # fmt: skip
    """Pictures a second of the training loader, a core and in all, beside what a training step consumes."""
    from flows.bench.loader import bench_loader as run

    run(corpora, stage, size, counts, consumes, seconds, overrides, head)


@bench.command("convert")
@click.argument("dataset", type=click.Choice(["ava256", "nersemble"]))
@click.option("--size", default=512, show_default=True, type=click.IntRange(16), help="Pixels a side of a crop.")
def bench_convert(dataset: str, size: int) -> None:
    """Conversion of DATASET beside plain decoding and writing again of the same pictures."""
    from flows.bench.convert import bench_convert as run

    run(dataset, size)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command; an error ends as one line, a log file for the rest, and an exit status (1 or 2)."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    log_file: Path | None = None
    try:
        settings = load_settings()
        quiet_services(settings)
        log_file = start_log(settings.logs, words[0] if words and words[0].isalpha() else "help")
        cli.main(args=words, prog_name="ffavatar", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as shown:
        err.print(shown.ctx.get_help(), markup=False)
        sys.exit(WRONG_CALL)
    except click.ClickException as wrong:
        err.print(f"ffavatar: {wrong.format_message()}", markup=False)
        sys.exit(WRONG_CALL)
    except (click.exceptions.Abort, KeyboardInterrupt):
        err.print("ffavatar: interrupted; what was committed stays, and the same command goes on from there")
        sys.exit(130)
    except Exception as error:
        sys.exit(report_error(error, log_file))


if __name__ == "__main__":
    main()
