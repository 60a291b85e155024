"""A training stage: a Prefect flow that launches a Ray Train job, logs to MLflow and hands its checkpoint on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from prefect import flow, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE

from ffavatar_model.config import to_dict
from ffavatar_model.head import load_head
from ffavatar_model.io.weights import MODEL_FILE, load_weights, model_file
from ffavatar_model.model import FFAvatar
from ffavatar_model.training import configured
from flows.avatar.heads import head_file
from flows.training.job import Job, job_values, run_job
from flows.training.stage_data import datasets
from infra import ray_train
from infra.console import CallError, say, table
from infra.ray_session import ray_session
from infra.settings import MAX_FAILURES, TIMEOUT_S, load_settings
from infra.storage import open_store
from infra.tracking import TrackedRun, config_hash, file_digest, git_revision, tracked_run
from mfhq.catalog import Catalog
from mfhq.live import record_run

RUN_FILE = "run.json"
"""Beside a checkpoint: which run made it, from which snapshot; the next stage finds its parent here."""
MAY_CHANGE = ("workers",)
"""Settings that may be others when a run goes on."""


class StoppedError(RuntimeError):
    """A training job ended before its last step, and can go on from its last checkpoint."""

    def __init__(self, why: str, run_id: str) -> None:
        super().__init__(why, run_id)
        self.why, self.run_id = why, run_id

    def __str__(self) -> str:
        return f"{self.why}; go on from its last checkpoint with --resume {self.run_id}"


def train_command(
    stage: str,
    corpus: str,
    init: str | None,
    identity: str | None,
    workers: int,
    overrides: list[str],
    out: Path | None,
    head: str | None,
    resume: str | None = None,
    max_failures: int = MAX_FAILURES,
    timeout_s: int = TIMEOUT_S,
) -> None:
    """``ffavatar train``."""
    if stage == "personalize" and not identity:
        raise CallError("train personalize needs --identity ID; list them: ffavatar sql 'SELECT * FROM identities'")
    settings = load_settings()
    check(stage, corpus, init or "", identity or "", overrides, out, head or "")
    if resume:
        TrackedRun(settings.tracking_uri, resume).config()
    with ray_session(settings):
        ended = train(
            stage=stage,
            corpus=corpus,
            init=init or "",
            identity=identity or "",
            workers=workers,
            overrides=overrides,
            out=str(out or ""),
            head=head or "",
            home=str(settings.home),
            resume=resume or "",
            max_failures=max_failures,
            timeout_s=timeout_s,
        )
    show(stage, ended)


def check(stage: str, corpus: str, init: str, identity: str, overrides: list[str], out: Path | None, head: str) -> None:
    """Find what is wrong with a call before anything is started.

    Raises:
        CallError: ``out`` holds something else than a checkpoint.
        ValueError: the recipe, the checkpoint, the corpus or the person does not fit; the message says which.
    """
    if out is not None:
        out = out.resolve()
        if out.exists() and not (out / MODEL_FILE).is_file() and not (out.is_dir() and not any(out.iterdir())):
            raise CallError(f"-o {out}: is there and holds no checkpoint; name a new folder")
    config = configured(stage, overrides, init=init)
    config.objective.load_lpips()
    store = open_store(corpus)
    datasets(config, store, Catalog(store).open(), identity)
    if init:
        load_weights(Path(init), FFAvatar(config.model, load_head(head_file(head or None))))


def show(stage: str, ended: dict[str, Any]) -> None:
    """Print what a stage reached on held-out pictures, before and after, and where its checkpoint is."""
    metrics = ended["metrics"]
    names = sorted(name.removeprefix("end/") for name in metrics if name.startswith("end/"))
    rows = [(name, metrics.get(f"start/{name}"), metrics[f"end/{name}"]) for name in names]
    table(f"{stage}: held out, {ended['steps']} steps", ("metric", "before", "after"), rows)
    say("checkpoint {path}  (MLflow run {run})", path=ended["checkpoint"], run=ended["run_id"])


@task(name="ray train job", cache_policy=NO_CACHE)
def fit(
    job: dict[str, Any], name: str, workers: int, home: str, out: str, max_failures: int, timeout_s: int
) -> dict[str, Any]:
    """Run the job on Ray and copy its last checkpoint to ``out``; returns the last metrics."""
    result = ray_train.fit(
        run_job,
        job,
        name=name,
        storage=load_settings(home).train_storage,
        workers=workers,
        gpu=torch.cuda.is_available(),
        max_failures=max_failures,
        timeout_s=timeout_s,
    )
    result.save(Path(out))
    return result.metrics


@flow(name="train", validate_parameters=False)
def train(
    *,
    stage: str,
    corpus: str,
    init: str = "",
    identity: str = "",
    workers: int = 1,
    overrides: list[str] | None = None,
    out: str = "",
    head: str = "",
    home: str = "",
    size: str = "tiny",
    resume: str = "",
    max_failures: int = MAX_FAILURES,
    timeout_s: int = TIMEOUT_S,
) -> dict[str, Any]:
    """Train ``stage`` on the newest snapshot of ``corpus``.

    ``resume`` is a run of the same settings that did not end: it goes on from its last checkpoint, on the snapshot that
    it was begun with, on any number of workers. For ``max_failures`` and ``timeout_s`` see ``infra.ray_train.fit``.

    Returns:
        ``checkpoint`` (folder), ``run_id``, ``metrics`` (``start/…`` and ``end/…`` on held-out people or pictures,
        ``seconds/…``), ``steps``.
    """
    settings = load_settings(home or None)
    init = str(model_file(Path(init)).resolve()) if init else ""
    config = configured(stage, overrides or [], size, init)
    store = open_store(corpus)
    kept = TrackedRun(settings.tracking_uri, resume).config() if resume else {}
    snapshot = Catalog(store).open(kept.get("snapshot"))
    where = head_file(head or None).resolve()
    parent = _parent_run(init)
    described = {
        "stage": stage,
        "corpus": store.uri,
        "snapshot": snapshot.version,
        "identity": identity,
        "workers": workers,
        "init": init,
        "head": str(where),
        "train": to_dict(config),
    }
    if resume:
        _same(resume, kept, described)
    with tracked_run(settings, stage, f"{stage} {snapshot.version}", described, parent, resume) as run:
        if not resume:
            run.snapshot(store.uri, snapshot.version, snapshot.digest, "training")
            if init:
                run.tags({"init_digest": file_digest(Path(init))})
            if config.objective.lpips:
                run.tags({"lpips_digest": file_digest(Path(config.objective.lpips_file))})
        job = Job(
            corpus=store.uri,
            snapshot=snapshot.version,
            head=str(where),
            config=to_dict(config),
            identity=identity,
            init=init,
            tracking_uri=settings.tracking_uri,
            run_id=run.run_id,
        )
        checkpoint = Path(out).resolve() if out else settings.home / "checkpoints" / f"{stage}-{run.run_id[:8]}"
        name = f"{stage}-{run.run_id}"
        try:
            metrics = fit(job_values(job), name, workers, str(settings.home), str(checkpoint), max_failures, timeout_s)
        except ray_train.FinalError:
            raise  # going on from the last checkpoint with the same settings would end in it again
        except RuntimeError as error:
            raise StoppedError(str(error), run.run_id) from error
        record = {"run_id": run.run_id, "stage": stage, "corpus": store.uri, "snapshot": snapshot.version}
        (checkpoint / RUN_FILE).write_text(json.dumps(record | {"config_hash": config_hash(described)}, indent=1))
        _register(run, stage, checkpoint)
        record_run(store, run.run_id, stage, snapshot.version, git_revision(), config_hash(described), parent)
    steps = int(metrics.pop("step", 0))
    _artifact(stage, metrics, checkpoint, snapshot.version)
    return {"checkpoint": str(checkpoint), "run_id": run.run_id, "metrics": metrics, "steps": steps}


def _same(run_id: str, kept: Mapping[str, Any], asked: Mapping[str, Any], path: str = "") -> None:
    """Raise ``ValueError`` naming a setting that is another than the run was begun with."""
    for name in sorted({*kept, *asked} - set(MAY_CHANGE)):
        old, new = kept.get(name), asked.get(name)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            _same(run_id, old, new, f"{path}{name}.")
        elif old != new:
            raise ValueError(f"--resume {run_id}: it was begun with {path}{name}={old!r}, this call says {new!r}")


def _parent_run(init: str) -> str:
    """The run that made a checkpoint; empty where nothing beside the model file says so."""
    path = Path(init).with_name(RUN_FILE) if init else None
    return str(json.loads(path.read_text()).get("run_id", "")) if path and path.is_file() else ""


def _register(run: TrackedRun, stage: str, checkpoint: Path) -> None:
    weights = checkpoint / MODEL_FILE
    run.tags({"weights_digest": file_digest(weights)})
    run.register(f"ffavatar-{stage}", weights)


def _artifact(stage: str, metrics: dict[str, Any], checkpoint: Path, version: str) -> None:
    rows = [f"| {name} | {value:.4g} |" for name, value in sorted(metrics.items()) if isinstance(value, float)]
    body = "\n".join(["| metric | value |", "|---|---|", *rows])
    create_markdown_artifact(f"# {stage} on {version}\n\n{body}\n\ncheckpoint: `{checkpoint}`", key=f"train-{stage}")
