"""``ffavatar evaluate --corpus``: a checkpoint on people that it was not trained on, with intervals and baselines."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ffavatar_model.data.images import composed
from ffavatar_model.evaluation import PROTOCOL, Subject, cross_reenact, self_reenact, summarise
from ffavatar_model.evaluation.intervals import Interval
from ffavatar_model.io.atomic import write_atomically
from ffavatar_model.io.weights import read_header
from ffavatar_model.training import recipe
from ffavatar_model.training.config import TrainConfig
from flows.avatar.reconstruct import open_model
from flows.evaluation.judges import open_judges
from flows.training.stage_data import NoPeopleError, datasets
from infra.console import CallError, say, table
from infra.storage import open_store
from infra.tracking import file_digest, git_revision
from mfhq.catalog import Catalog

METRICS = ("psnr", "ssim", "ms_ssim", "lpips", "csim", "akd", "aed", "apd")
NUMBERS_FILE = "evaluation.json"
SOURCES, DRIVERS = 4, 8
FACED = 0.3
"""Least cosine between a known camera and where the face looks: a picture from farther round is no source."""


def evaluate_corpus_command(
    checkpoint: Path,
    corpus: str,
    snapshot: str | None,
    people: int,
    pack: str | None,
    lpips: Path | None,
    out: Path | None,
) -> None:
    """``ffavatar evaluate CHECKPOINT --corpus URI``."""
    found = evaluate(checkpoint, corpus, snapshot, people, pack, lpips)
    for name in ("self", "cross"):
        there = [metric for metric in METRICS if any(metric in row for row in found[name])]
        rows = [(row["method"], row["views"], *(_shown(row.get(metric)) for metric in there)) for row in found[name]]
        if rows:
            table(f"{name}-reenactment, {found['people']} people held out", ("method", "views", *there), rows)
    for name, meaning in found["protocol"].items():
        say("{name}: {meaning}", name=name, meaning=meaning)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        write_atomically(out / NUMBERS_FILE, json.dumps(found, indent=1).encode())
        say("written to {path}", path=out / NUMBERS_FILE)


def evaluate(
    checkpoint: Path,
    corpus: str,
    snapshot: str | None = None,
    people: int = 64,
    pack: str | None = None,
    lpips: Path | None = None,
) -> dict[str, Any]:
    """Every metric of self- and cross-reenactment, by method and number of sources, ready for JSON.

    Raises:
        CallError: the corpus holds nobody who was held out.
        ValueError: the checkpoint is not one.
    """
    model, weights = open_model(checkpoint)
    header = read_header(checkpoint)
    config = held_out_config(header, model.config.image_size)
    store = open_store(corpus)
    opened = Catalog(store).open(snapshot)
    subjects = read_subjects(replace(config, model=model.config), store, opened, people)
    judges = open_judges(pack, lpips, model.rig.points.device)
    rows = list(self_reenact(model, subjects, (1, 2, SOURCES), judges))
    crossed = list(cross_reenact(model, subjects, SOURCES, judges)) if len(subjects) > 1 else []
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
        "self": [plain(row) for row in summarise(rows, ("method", "views"), METRICS)],
        "cross": [plain(row) for row in summarise(crossed, ("method", "views"), METRICS)],
    }


def held_out_config(header: dict[str, Any], size: int) -> TrainConfig:
    """A configuration that reads what the checkpoint's stage reads: captures for multiview, mined faces otherwise."""
    stage = "multiview" if header.get("stage") == "multiview" else "pretrain"
    return recipe(stage)


def read_subjects(config: TrainConfig, store: Any, snapshot: Any, people: int) -> list[Subject]:
    """Held-out people of a snapshot: the best-ranked pictures are sources, the rest drivers.

    Captures: sources are pictures of the first moment that show the face, drivers those of the last one.
    """
    try:
        _, held = datasets(config, store, snapshot, "")
    except NoPeopleError as error:
        raise CallError(str(error)) from error
    if held is None:
        raise CallError(f"{store.uri} {snapshot.version}: nobody is held out (split val); a larger corpus is needed")
    subjects = []
    for person, rows in held.groups[:people]:
        faces = [held.face(row) for row in rows]
        if config.stage == "multiview":
            first, last = faces[0].moment, max(face.moment for face in faces)
            sources = [f for f in faces if f.moment == first and _faced(f.head_to_camera)][:SOURCES]
            drivers = [f for f in faces if f.moment == last and f.id not in {s.id for s in sources}]
        else:
            n = min(SOURCES, max(1, len(faces) - 2))
            sources, drivers = faces[:n], faces[n : n + DRIVERS]
        if not (sources and drivers):
            continue
        known = drivers[0].head_to_camera is not None
        shown, mattes = composed(torch.stack([f.pixels for f in drivers]))
        subjects.append(
            Subject(
                person=person,
                sources=composed(torch.stack([f.pixels for f in sources]))[0],
                drivers=shown,
                mattes=mattes,
                K=torch.stack([f.K for f in drivers]) if known else None,
                head_to_camera=torch.stack([f.head_to_camera for f in drivers]) if known else None,  # type: ignore[misc]
            )
        )
    return subjects


def _faced(head_to_camera: torch.Tensor | None) -> bool:
    return head_to_camera is None or float(-head_to_camera[2, 2]) > FACED


def _shown(interval: dict[str, Any] | None) -> str:
    return "" if interval is None else f"{interval['value']:.3g}\n{interval['low']:.3g}…{interval['high']:.3g}"


def plain(row: dict[str, Any]) -> dict[str, Any]:
    """A summary's row ready for JSON."""
    return {name: vars(value) if isinstance(value, Interval) else value for name, value in row.items()}
