"""Training on studio people that are rendered where they are used: ``python -m flows.experiments.train_on_studio``.

It needs torch, gsplat (on CUDA), numpy, scipy, OpenCV, pyarrow and embreex; no Ray, Prefect, MLflow or DuckDB. A part
of a run ends at its time limit with half-precision weights, which the next part begins with (a warm restart: the
optimizer begins anew).
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from ffavatar_model.config import to_dict
from ffavatar_model.data.batch import TrainingData
from ffavatar_model.head import load_head
from ffavatar_model.io.weights import load_weights, save_weights
from ffavatar_model.model import FFAvatar
from ffavatar_model.training import TrainConfig, Trainer, build_config, recipe
from flows.experiments.compare import METRICS_FILE
from flows.experiments.device_images import ResidentData
from flows.experiments.following import evaluate_following, load_network, make_rendered_subject
from flows.experiments.judging import HeldOut, evaluate_model, render_sheet
from flows.experiments.mixture import Mixture
from flows.experiments.rendering import (
    RenderedArrays,
    RenderOrder,
    plan_orders,
    render_in_background,
    to_resident_images,
)
from mfhq.ids import digest
from pipelines.faces.weight_cache import cache_dir

log = logging.getLogger(__name__)
PART_BYTES = 15 << 20
"""Size of the parts in which a model file is written, too, for places that hand back small files alone."""


class LogReporter:
    """A reporter that logs the metrics of each step and collects them for the report."""

    def __init__(self) -> None:
        self.began = time.monotonic()
        self.lines: list[dict[str, float]] = []

    def report(self, step: int, metrics: Mapping[str, float], checkpoint: Path | None) -> None:
        """Log the metrics of a step: see ``ffavatar_model.training.Reporter``."""
        line = {"step": step, "clock": time.monotonic() - self.began, **metrics}
        self.lines.append({name: round(value, 5) for name, value in line.items()})
        log.info("%s", json.dumps(self.lines[-1]))

    def image(self, step: int, name: str, rgb: NDArray[np.uint8]) -> None:
        """Ignore an image: the experiment has sheets."""


@click.command(context_settings={"show_default": True})
@click.option("--stage", type=click.Choice(["pretrain", "multiview"]), default="pretrain")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder for what comes back.")
@click.option("--work", type=click.Path(path_type=Path), required=True, help="Folder for images and checkpoints.")
@click.option("--head", type=click.Path(path_type=Path), help="Cache folder that holds heads/open-head-v*.safetensors.")
@click.option("--assets", type=click.Path(path_type=Path), help="Kit of skins, hair and environment maps.")
@click.option("--init", type=click.Path(path_type=Path), help="Model file to begin with.")
@click.option("--model", "size", default="small", help="Preset.")
@click.option("--seconds", default=400.0, help="Of training.")
@click.option("--people", default=3000, help="To render for training, at most; the run takes those that are ready.")
@click.option("--skip", default=0, help="People left out first: those that an earlier part was trained on.")
@click.option("--first", default=500, help="People that must be rendered before training begins.")
@click.option("--held", default=64, help="People held out.")
@click.option("--moments", default=8, help="Timesteps a person.")
@click.option("--cameras", default=8, help="Cameras a person, all round (multiview).")
@click.option(
    "--mix",
    default=0.0,
    type=click.FloatRange(0, 1, max_open=True),
    help="multiview: share of the steps on portraits of stage 1.",
)
@click.option("--mixed-people", default=256, help="Of stage 1 that --mix draws from.")
@click.option("--mixed-skip", default=0, help="People of stage 1 left out first.")
@click.option("--processes", default=15, help="That render.")
@click.option("--before", is_flag=True, help="Evaluate the model that it begins with, too.")
@click.option("--profile", "profiled", is_flag=True, help="Say where the time of ten more steps goes.")
@click.option("--set", "overrides", multiple=True, help="A training setting, a.b=value.")
def main(
    stage: str,
    out: Path,
    work: Path,
    head: Path | None,
    assets: Path | None,
    init: Path | None,
    size: str,
    seconds: float,
    people: int,
    skip: int,
    first: int,
    held: int,
    moments: int,
    cameras: int,
    mix: float,
    mixed_people: int,
    mixed_skip: int,
    processes: int,
    before: bool,
    profiled: bool,
    overrides: tuple[str, ...],
) -> None:
    """Render studio people, train a stage on them for a time, and evaluate it on people held out."""
    logging.basicConfig(level=logging.INFO, format="%(relativeCreated)d %(message)s")
    out.mkdir(parents=True, exist_ok=True)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    cache = head or cache_dir()
    config = build_config(stage, [f"max_seconds={seconds}", *overrides], size)
    px = config.model.image_size
    held_out_orders, orders = plan_orders(stage, range(skip, skip + people), held, moments, cameras, px)
    mixed = range(mixed_skip, mixed_skip + mixed_people) if mix else range(0)
    mixed_orders = plan_orders("pretrain", mixed, 0, 8, 1, px)[1]
    own, portraits_data = (
        ResidentData(settings, px, digest([name, skip, people, moments, cameras, px]), count_images(ordered), device)
        for name, settings, ordered in (
            (stage, config.data, orders),
            ("portraits", recipe("pretrain", size).data, mixed_orders),
        )
    )
    data = Mixture(own, portraits_data, mix, config.batch) if mix else own
    orders = interleave_orders(orders, mixed_orders)
    held_out: list[tuple[RenderOrder, RenderedArrays]] = []
    held_out_files, mixed_set = {order.file_name for order in held_out_orders}, set(mixed_orders)

    def take(order: RenderOrder, rendered: RenderedArrays) -> None:
        if order.file_name in held_out_files:
            held_out.append((order, rendered))
        else:
            (portraits_data if order in mixed_set else own).add(to_resident_images(order, rendered))

    ordered = [*held_out_orders, *orders]
    with render_in_background(ordered, take, processes, cache, work / "pictures", assets) as count_done:
        began = time.monotonic()
        trainer = _build_trainer(config, cache, device, init)
        _warm_up(trainer.model, device)
        enough = len(held_out_orders) + min(first, len(orders))
        while count_done() < enough or not len(own) or (mix and not len(portraits_data)):
            time.sleep(0.2)
        log.info("%d people ready after %.0f s", len(data), time.monotonic() - began)
        report: dict[str, Any] = {"config": to_dict(config), "seconds_to_first": time.monotonic() - began}
        portraits = [person for person in held_out if person[0].kind == "portraits"]
        around = [person for person in held_out if person[0].kind == "around"]
        if before:
            report["before"] = evaluate_model(trainer.model.eval(), portraits, around)
        reporter = LogReporter()
        folder = work / f"checkpoints-{out.name}"  # runs that share ``work`` must not remove each other's
        try:
            outcome = trainer.train(data, None, reporter, folder, None, None)
        except RuntimeError as error:
            if trainer.step or trainer.graphed is None:
                raise
            log.warning("no CUDA graph of a step (%s): training launches kernel by kernel", error)
            trainer = _build_trainer(replace(config, graphs=False), cache, device, init)
            outcome = trainer.train(data, None, reporter, folder, None, None)
        if profiled:
            profile_steps(trainer, data)
        report["rendered"] = count_done()
    report |= {"steps": outcome.step, "people": len(own), "pictures": len(own.ids), "seconds": outcome.metrics}
    report |= {"mixed_people": len(portraits_data), "mix": mix}
    write_results(trainer, report | {"curve": reporter.lines}, out, portraits, around)


def _build_trainer(config: TrainConfig, cache: Path, device: torch.device, init: Path | None) -> Trainer:
    """Build a trainer at its start, with the weights of ``init`` if there is one."""
    head = load_head(next((cache / "heads").glob("open-head-v*.safetensors")))
    trainer = Trainer(config, head, device, 0, 1)
    if init is not None:
        load_weights(init, trainer.model)
    return trainer


def count_images(orders: Sequence[RenderOrder]) -> int:
    """Return the number of images of all orders together."""
    return sum(order.timesteps * order.cameras for order in orders)


def interleave_orders(orders: Sequence[RenderOrder], others: Sequence[RenderOrder]) -> list[RenderOrder]:
    """Merge two lists, each in its order and evenly spread, so that some of either are ready early."""
    positions = [((i + 0.5) / len(part), order) for part in (orders, others) for i, order in enumerate(part)]
    return [order for _, order in sorted(positions, key=lambda pair: pair[0])]


def write_results(trainer: Trainer, report: dict[str, Any], out: Path, portraits: HeldOut, around: HeldOut) -> None:
    """Write weights, metrics and sheets; the weights first: they must not be lost.

    Args:
        trainer: A trainer at its end; averaged weights are written where there are any, in half precision.
        report: The run so far; the evaluation is added.
        out: Folder of the results.
        portraits: Held-out people as portraits.
        around: Held-out people from all round.
    """
    model, averaged = trainer.model, trainer.averaged
    if averaged is not None:
        model.load_state_dict(averaged, strict=False)
    model.eval()
    notes = {"stage": trainer.config.stage, "step": trainer.step, "trained_on": "rendered studio people alone"}
    weights = {name: value.half() for name, value in model.state_dict().items()}
    save_weights(out / "model.safetensors", model, weights, **notes)
    content = (out / "model.safetensors").read_bytes()
    if len(content) > PART_BYTES:
        for i in range(0, len(content), PART_BYTES):
            (out / f"model.safetensors.{i // PART_BYTES}").write_bytes(content[i : i + PART_BYTES])
    (out / METRICS_FILE).write_text(json.dumps(report, indent=1))
    for name, held_out in {"portraits": portraits, "around": around}.items():
        if held_out:
            Image.fromarray(render_sheet(model, held_out)).save(out / f"{name}.jpg", quality=92)
    report["after"] = evaluate_model(model, portraits, around)
    people = [make_rendered_subject(*person) for person in portraits]
    report["following"] = evaluate_following(model, people, load_network(trainer.device)) if people else {}
    (out / METRICS_FILE).write_text(json.dumps(report, indent=1))
    log.info("%s", json.dumps(report["after"], indent=1))


def profile_steps(trainer: Trainer, data: TrainingData, steps: int = 10) -> None:
    """Log the operators that take most of the device's time (of the processor's, where there is no device)."""
    from torch.profiler import ProfilerActivity

    activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if trainer.device.type == "cuda" else [])
    batches = [data.batch(range(i * trainer.config.batch, (i + 1) * trainer.config.batch)) for i in range(steps)]
    with torch.profiler.profile(activities=activities) as profiler:
        for batch in batches:
            trainer.train_step(batch)
    key = f"self_{trainer.device.type}_time_total"
    log.info("%s", profiler.key_averages().table(sort_by=key, row_limit=30, max_name_column_width=60))


def _warm_up(model: FFAvatar, device: torch.device) -> None:
    """Compile or load what is compiled at a first use, while people are rendered."""
    size = model.config.image_size
    image = torch.rand(1, 1, 3, size, size, device=device)
    with torch.no_grad():
        model(image, None, image, torch.eye(3, device=device).expand(1, 1, 3, 3) * size)


if __name__ == "__main__":
    main()
