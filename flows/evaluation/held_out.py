"""Evaluation on held-out people of a corpus, with intervals and baselines: ``ffavatar evaluate --corpus``."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ffavatar_model.atomic_file import write_atomically
from ffavatar_model.data.images import compose_image
from ffavatar_model.evaluation import PROTOCOL, Subject, cross_reenact, self_reenact, summarise
from ffavatar_model.evaluation.intervals import Interval
from ffavatar_model.io.weights import read_header
from ffavatar_model.training import recipe
from ffavatar_model.training.config import TrainConfig
from flows.avatar.load_models import open_model
from flows.evaluation.judges import open_judges
from flows.training.stage_data import NoPeopleError, open_datasets
from infra.console import CallError, print_table, say
from infra.storage import open_store
from infra.tracking import file_digest, git_revision
from mfhq.catalog import Catalog, Snapshot
from mfhq.store import Store

METRICS = ("psnr", "ssim", "ms_ssim", "lpips", "csim", "akd", "aed", "apd")
EVALUATION_FILE = "evaluation.json"
N_SOURCES, N_DRIVERS = 4, 8
FACED = 0.3
"""Lowest cosine of the angle between the face's direction and the camera, for a source image with a known camera."""


def evaluate_corpus_command(
    checkpoint: Path,
    corpus: str,
    snapshot: str | None,
    people: int,
    pack: str | None,
    lpips: Path | None,
    out: Path | None,
) -> None:
    """Run ``ffavatar evaluate CHECKPOINT --corpus URI``: print tables of metrics, and write them to a file.

    Args:
        checkpoint: A model file, or a folder that contains one.
        corpus: URI of the corpus.
        snapshot: Name of the snapshot; None for the newest.
        people: Most people that are evaluated.
        pack: Name or folder of the face pack that measures ``csim``; None for the embedded pack.
        lpips: File with the weights of LPIPS; None to leave LPIPS out.
        out: Folder in which ``EVALUATION_FILE`` is written; None to write no file.
    """
    report = evaluate_checkpoint(checkpoint, corpus, snapshot, people, pack, lpips)
    for name in ("self", "cross"):
        metrics = [metric for metric in METRICS if any(metric in row for row in report[name])]
        rows = [
            (row["method"], row["views"], *(_format_interval(row.get(metric)) for metric in metrics))
            for row in report[name]
        ]
        if rows:
            print_table(f"{name}-reenactment, {report['people']} people held out", ("method", "views", *metrics), rows)
    for name, meaning in report["protocol"].items():
        say("{name}: {meaning}", name=name, meaning=meaning)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        write_atomically(out / EVALUATION_FILE, json.dumps(report, indent=1).encode())
        say("written to {path}", path=out / EVALUATION_FILE)


def evaluate_checkpoint(
    checkpoint: Path,
    corpus: str,
    snapshot: str | None = None,
    people: int = 64,
    pack: str | None = None,
    lpips: Path | None = None,
) -> dict[str, Any]:
    """Measure self- and cross-reenactment of held-out people.

    Args:
        checkpoint: A model file, or a folder that contains one.
        corpus: URI of the corpus.
        snapshot: Name of the snapshot; None for the newest.
        people: Most people that are evaluated.
        pack: Name or folder of the face pack that measures ``csim``; None for the embedded pack.
        lpips: File with the weights of LPIPS; None to leave LPIPS out.

    Returns:
        Every metric by method and number of sources, the protocol, and the provenance, as values that JSON can hold.

    Raises:
        CallError: No person of the corpus is held out.
        ValueError: ``checkpoint`` is not a checkpoint.
    """
    model, weights = open_model(checkpoint)
    header = read_header(checkpoint)
    stage = "multiview" if header.get("stage") == "multiview" else "pretrain"
    store = open_store(corpus)
    opened = Catalog(store).open(snapshot)
    subjects = read_subjects(replace(recipe(stage), model=model.config), store, opened, people)
    judges = open_judges(pack, lpips, model.rig.points.device)
    rows = list(self_reenact(model, subjects, (1, 2, N_SOURCES), judges))
    crossed = list(cross_reenact(model, subjects, N_SOURCES, judges)) if len(subjects) > 1 else []
    return {
        "checkpoint": file_digest(weights),
        "stage": header.get("stage"),
        "step": header.get("step"),
        "corpus": store.uri,
        "snapshot": opened.version,
        "digest": opened.digest,
        "git_revision": git_revision(),
        "people": len(subjects),
        "pictures": sum(len(s.drivers) for s in subjects),
        "protocol": PROTOCOL,
        "self": [_to_json(row) for row in summarise(rows, ("method", "views"), METRICS)],
        "cross": [_to_json(row) for row in summarise(crossed, ("method", "views"), METRICS)],
    }


def read_subjects(config: TrainConfig, store: Store, snapshot: Snapshot, people: int) -> list[Subject]:
    """Read held-out people of a snapshot, each with source and driver images.

    Of mined faces, the best-ranked images are the sources and the next ``N_DRIVERS`` the drivers. Of captures, the
    sources are images of the first timestep that show the face, and the drivers are the images of the last timestep.

    Args:
        config: Training config; captures are read if its stage is ``multiview``, mined faces otherwise.
        store: The corpus.
        snapshot: The snapshot to read.
        people: Most people that are read.

    Raises:
        CallError: No person is held out.
    """
    try:
        _, held_out = open_datasets(config, store, snapshot, "")
    except NoPeopleError as error:
        raise CallError(str(error)) from error
    if held_out is None:
        raise CallError(f"{store.uri} {snapshot.version}: nobody is held out (split val); a larger corpus is needed")
    subjects = []
    for person, rows in held_out.people[:people]:
        images = [held_out.load_image(row) for row in rows]
        if config.stage == "multiview":
            first, last = images[0].timestep, max(image.timestep for image in images)
            sources = [i for i in images if i.timestep == first and _shows_face(i.head_to_camera)][:N_SOURCES]
            drivers = [i for i in images if i.timestep == last and i.id not in {s.id for s in sources}]
        else:
            n = min(N_SOURCES, max(1, len(images) - 2))
            sources, drivers = images[:n], images[n : n + N_DRIVERS]
        if not (sources and drivers):
            continue
        known = drivers[0].head_to_camera is not None
        targets, mattes = compose_image(torch.stack([i.pixels for i in drivers]))
        subjects.append(
            Subject(
                person=person,
                sources=compose_image(torch.stack([i.pixels for i in sources]))[0],
                drivers=targets,
                mattes=mattes,
                K=torch.stack([i.K for i in drivers]) if known else None,
                head_to_camera=torch.stack([i.head_to_camera for i in drivers]) if known else None,  # type: ignore[misc]
            )
        )
    return subjects


def _shows_face(head_to_camera: torch.Tensor | None) -> bool:
    return head_to_camera is None or float(-head_to_camera[2, 2]) > FACED


def _format_interval(interval: dict[str, Any] | None) -> str:
    return "" if interval is None else f"{interval['value']:.3g}\n{interval['low']:.3g}…{interval['high']:.3g}"


def _to_json(row: dict[str, Any]) -> dict[str, Any]:
    """Convert a row of a summary to values that JSON can hold."""
    return {name: vars(value) if isinstance(value, Interval) else value for name, value in row.items()}
