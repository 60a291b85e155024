"""Commands for ML engineers: head files, training stages and evaluation."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import click

from flows.cli.options import CORPUS, FAILURES, HEAD, PACK, TIMEOUT, WORKERS
from infra.settings import MODEL_PRESET


@click.command()
@click.argument("stage", type=click.Choice(["pretrain", "multiview", "personalize"]))
@CORPUS
@click.option("--init", metavar="CHECKPOINT", help="Start from these weights.")
@click.option("--identity", metavar="ID", help="personalize: the person.")
@WORKERS
@click.option("--set", "overrides", multiple=True, metavar="a.b=c", help="Change a setting of the recipe.")
@click.option("-o", "--out", type=click.Path(path_type=Path), help="Folder of the checkpoint.")
@click.option("--resume", metavar="RUN", help="Go on with this run of the same settings, also on fewer workers.")
@FAILURES
@TIMEOUT
@HEAD
def train(
    stage: str,
    corpus: str,
    init: str | None,
    identity: str | None,
    workers: int,
    overrides: Sequence[str],
    out: Path | None,
    resume: str | None,
    max_failures: int,
    timeout_s: int,
    head: str | None,
) -> None:
    """Train one STAGE as a Ray Train job."""
    from flows.train import train_command

    settings = list(overrides)
    train_command(stage, corpus, init, identity, workers, settings, out, head, resume, max_failures, timeout_s)


@click.command()
@click.argument("file", required=False)
@click.option("--teeth", is_flag=True, help="Add two rows of teeth behind the lips, the lower one on the jaw.")
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), help="The head file (.safetensors).")
def head(file: str | None, teeth: bool, out: Path) -> None:
    """Write the head model FILE (a FLAME pickle; default the open head) as a head file with landmarks."""
    from flows.avatar.heads import head_command

    head_command(file, teeth, out)


@click.command()
@CORPUS
@click.option("--captures", required=True, metavar="URI", help="The corpus of calibrated captures, for multiview.")
@click.option("--identity", metavar="ID", help="The person to personalize for; default the one with the most images.")
@click.option("--init", metavar="CHECKPOINT", help="Start pretraining from these weights; default random ones.")
@click.option(
    "--model", "size", default=MODEL_PRESET, show_default=True, help="Preset of the model; with --init its own."
)
@WORKERS
@click.option(
    "--gain",
    default=0.0,
    show_default=True,
    metavar="DB",
    help="Least rise of the held-out PSNR in each stage before the next one begins.",
)
@click.option("--set", "overrides", multiple=True, metavar="STAGE.a.b=c", help="Change a setting of one stage, or all.")
@FAILURES
@TIMEOUT
@HEAD
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), help="Folder of the checkpoints.")
def curriculum(
    corpus: str,
    captures: str,
    identity: str | None,
    init: str | None,
    size: str,
    workers: int,
    gain: float,
    overrides: Sequence[str],
    max_failures: int,
    timeout_s: int,
    head: str | None,
    out: Path,
) -> None:
    """Train the three stages in turn, from the first that has not passed yet."""
    from flows.curriculum import curriculum_command

    settings = (max_failures, timeout_s)
    curriculum_command(corpus, captures, identity, init, size, workers, gain, overrides, head, out, *settings)


@click.command()
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.option("--corpus", metavar="URI", help="Measure on the held-out people of this corpus.")
@click.option("--snapshot", metavar="vN", help="Of the corpus; default the newest.")
@click.option("--people", default=64, show_default=True, type=click.IntRange(1), help="Held-out people, at most.")
@click.option("--lpips", type=click.Path(path_type=Path), help="Weights of LPIPS; without them, no LPIPS.")
@click.option(
    "--nersemble-benchmark",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Render the benchmark's hold-out views into submissions, a zip a task.",
)
@click.option(
    "--head",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The checkpoint's FLAME file: the benchmark's parameters are in its frame.",
)
@PACK
@click.option("-o", "--out", type=click.Path(path_type=Path), help="Folder of evaluation.json, or of the submissions.")
def evaluate(
    checkpoint: Path,
    corpus: str | None,
    snapshot: str | None,
    people: int,
    lpips: Path | None,
    nersemble_benchmark: Path | None,
    head: Path | None,
    pack: str | None,
    out: Path | None,
) -> None:
    """Measure CHECKPOINT on people held out (--corpus): self- and cross-reenactment, baselines, intervals over people;
    or render submissions to the NeRSemble benchmark, whose organisers measure them."""
    if corpus is None and nersemble_benchmark is None:
        raise click.UsageError("nothing to evaluate on: give --corpus URI or --nersemble-benchmark DIR")
    if nersemble_benchmark is not None and out is None:
        raise click.UsageError("submissions are files: give -o DIR")
    if corpus is not None:
        from flows.evaluation.held_out import evaluate_corpus_command

        evaluate_corpus_command(checkpoint, corpus, snapshot, people, pack, lpips, out)
    if nersemble_benchmark is not None and out is not None:
        from flows.evaluation.nersemble_submission import benchmark_command

        if status := benchmark_command(checkpoint, nersemble_benchmark, head, pack, out):
            sys.exit(status)


COMMANDS = (train, head, curriculum, evaluate)
"""Commands that ``flows.cli`` adds to the group."""
