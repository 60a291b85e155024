"""Flow ``train``: run one training stage as a Ray Train job, tracked in MLflow."""

from __future__ import annotations

import json
import tempfile
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
from ffavatar_model.training import build_config
from flows.avatar.heads import prepare_head_file
from flows.avatar.serve import SERVED, example_photo
from flows.corpus.flow_session import open_corpus, opened, run_flow
from flows.corpus.run_record import record_tracked_run
from flows.running.flow_parameters import Count, Limit, Stage, Uri
from flows.training.job import Job, run_job
from flows.training.stage_data import open_datasets
from infra import ray_train
from infra.console import CallError, print_table, say
from infra.settings import MAX_FAILURES, MODEL_PRESET, TIMEOUT_S, load_settings
from infra.shown_text import masked_errors
from infra.storage import open_store
from infra.tracking import TrackedRun, config_hash, file_digest, tracked_run
from infra.tracking_model import save_model
from mfhq.catalog import Catalog

RUN_FILE = "run.json"
"""File beside a checkpoint that names its run and snapshot; the next stage reads its parent run from this file."""
SCORE = "end/psnr"
"""Metric on held-out people or images that decides which version of a registered model is the champion, dB."""
RESUME_MAY_CHANGE = ("workers",)
"""Settings that a resumed run may change."""


class StoppedError(RuntimeError):
    """Error of a training job that ended before its last step and can be resumed from its last checkpoint."""

    def __init__(self, cause: str, run_id: str) -> None:
        super().__init__(cause, run_id)
        self.cause, self.run_id = cause, run_id

    def __str__(self) -> str:
        return f"{self.cause}; go on from its last checkpoint with --resume {self.run_id}"


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
    """Run ``ffavatar train``.

    Args:
        stage: Name of the stage: pretrain, multiview or personalize.
        corpus: URI of the corpus.
        init: Checkpoint whose weights training begins with; None for random weights.
        identity: Id of the person, for stage personalize.
        workers: Number of training workers.
        overrides: Settings of the recipe, each written ``a.b=c``.
        out: Folder of the checkpoint; None for a folder below the home folder.
        head: Head file; None for the open head.
        resume: Id of the run to resume; None for a new run.
        max_failures: Restarts from the last checkpoint, at most.
        timeout_s: Longest time that workers wait for one another, seconds.

    Raises:
        CallError: The stage is personalize and ``identity`` is None, or ``out`` exists but holds no checkpoint.
        ValueError: ``check_call`` found an error in the arguments, or ``resume`` names no run.
    """
    if stage == "personalize" and not identity:
        raise CallError("train personalize needs --identity ID; list them: ffavatar sql 'SELECT * FROM identities'")
    settings = load_settings()
    open_corpus(corpus)
    check_call(stage, corpus, init or "", identity or "", overrides, out, head or "")
    if resume:
        TrackedRun(settings.tracking_uri, resume).read_config()
    result = run_flow(
        train,
        stage=stage,
        corpus=corpus,
        init=init or "",
        identity=identity or "",
        workers=workers,
        overrides=overrides,
        out=str(out or ""),
        head=head or "",
        resume=resume or "",
        max_failures=max_failures,
        timeout_s=timeout_s,
    )
    show_result(stage, result)


def check_call(
    stage: str, corpus: str, init: str, identity: str, overrides: list[str], out: Path | None, head: str
) -> None:
    """Check the arguments before anything is started; ``train_command`` describes them.

    Raises:
        CallError: ``out`` contains something other than a checkpoint.
        ValueError: The recipe, the checkpoint, the corpus or the person cannot be used; the message names the error.
    """
    if out is not None:
        out = out.resolve()
        if out.exists() and not (out / MODEL_FILE).is_file() and not (out.is_dir() and not any(out.iterdir())):
            raise CallError(f"-o {out}: is there and holds no checkpoint; name a new folder")
    config = build_config(stage, overrides, init=init)
    config.objective.load_lpips()
    store = open_store(corpus)
    open_datasets(config, store, Catalog(store).open(), identity)
    if init:
        load_weights(Path(init), FFAvatar(config.model, load_head(prepare_head_file(head or None))))


def show_result(stage: str, result: dict[str, Any]) -> None:
    """Print a stage's metrics on held-out images, before and after training, and the path of its checkpoint.

    Args:
        stage: Name of the stage.
        result: Return value of ``train``.
    """
    metrics = result["metrics"]
    names = sorted(name.removeprefix("end/") for name in metrics if name.startswith("end/"))
    rows = [(name, metrics.get(f"start/{name}"), metrics[f"end/{name}"]) for name in names]
    print_table(f"{stage}: held out, {result['steps']} steps", ("metric", "before", "after"), rows)
    say("checkpoint {path}  (MLflow run {run})", path=result["checkpoint"], run=result["run_id"])


@task(name="ray train job", cache_policy=NO_CACHE)
@masked_errors()
def run_stage_job(
    job: dict[str, Any], name: str, workers: int, home: str, out: str, max_failures: int, timeout_s: int
) -> dict[str, Any]:
    """Run a stage's job on Ray Train and copy its last checkpoint.

    Args:
        job: A ``flows.training.job.Job`` as plain values.
        name: Name of the job; a job of the same name continues from that job's last checkpoint.
        workers: Number of workers.
        home: Folder of runs and logs.
        out: Folder that the checkpoint is copied to.
        max_failures: Restarts of the job from its last checkpoint, at most.
        timeout_s: Time limits of ``infra.ray_train.run_training_job``, seconds.

    Returns:
        The metrics that were reported last.
    """
    result = ray_train.run_training_job(
        run_job,
        job,
        name=name,
        storage=load_settings(home).train_storage,
        workers=workers,
        gpu=torch.cuda.is_available(),
        max_failures=max_failures,
        keep=max(1, job["config"]["keep_best"]),
        timeout_s=timeout_s,
    )
    result.save(Path(out))
    return result.metrics


@flow(name="train", flow_run_name="train {stage} on {corpus}")
def train(
    *,
    stage: Stage,
    corpus: Uri,
    init: str = "",
    identity: str = "",
    workers: Count = 1,
    overrides: list[str] | None = None,
    out: str = "",
    head: str = "",
    home: str = "",
    size: str = MODEL_PRESET,
    resume: str = "",
    max_failures: Limit = MAX_FAILURES,
    timeout_s: Count = TIMEOUT_S,
) -> dict[str, Any]:
    """Train a stage on the newest snapshot of a corpus.

    Args:
        stage: Name of the stage: pretrain, multiview or personalize.
        corpus: URI of the corpus.
        init: Checkpoint whose weights training begins with; empty for random weights.
        identity: Id of the person, for stage personalize.
        workers: Number of training workers.
        overrides: Settings of the recipe, each written ``a.b=c``.
        out: Folder of the checkpoint; empty for a folder below ``home``.
        head: Head file; empty for the open head.
        home: Folder of runs and logs; empty for the one that the environment sets (``infra.settings``).
        size: Preset of the model's size, used if ``init`` is empty.
        resume: Id of an unfinished run with the same settings; it continues from its last checkpoint on the snapshot
            that it began with, on any number of workers. Empty for a new run.
        max_failures: Restarts of the job from its last checkpoint, at most.
        timeout_s: Time limits of ``infra.ray_train.run_training_job``, seconds.

    Returns:
        ``checkpoint`` (its folder), ``run_id``, ``steps`` (number of steps), and ``metrics``: ``start/…`` and
        ``end/…`` on held-out people or images, ``seconds/…`` for times.

    Raises:
        StoppedError: The job ended before its last step; it can be resumed.
        FinalError: The loop raised an error that would recur after a restart.
        ValueError: ``resume`` names a run with other settings.
    """
    with opened(home) as settings:
        init = str(model_file(Path(init)).resolve()) if init else ""
        config = build_config(stage, overrides or [], size, init)
        store = open_store(corpus)
        begun_with = TrackedRun(settings.tracking_uri, resume).read_config() if resume else {}
        snapshot = Catalog(store).open(begun_with.get("snapshot"))
        head_path = prepare_head_file(head or None).resolve()
        parent = _parent_run(init)
        described = {
            "stage": stage,
            "corpus": store.uri,
            "snapshot": snapshot.version,
            "identity": identity,
            "workers": workers,
            "init": init,
            "head": str(head_path),
            "train": to_dict(config),
        }
        if resume:
            _check_same_settings(resume, begun_with, described)
        with tracked_run(settings, stage, f"{stage} {snapshot.version}", described, parent, resume) as run:
            if not resume:
                run.log_snapshot(store.uri, snapshot.version, snapshot.digest, "training")
                if init:
                    run.set_tags({"init_digest": file_digest(Path(init))})
                if config.objective.lpips:
                    run.set_tags({"lpips_digest": file_digest(Path(config.objective.lpips_file))})
            job = Job(
                corpus=store.uri,
                snapshot=snapshot.version,
                head=str(head_path),
                config=to_dict(config),
                identity=identity,
                init=init,
                tracking_uri=settings.tracking_uri,
                run_id=run.run_id,
            )
            checkpoint = Path(out).resolve() if out else settings.home / "checkpoints" / f"{stage}-{run.run_id[:8]}"
            name = f"{stage}-{run.run_id}"
            try:
                metrics = run_stage_job(
                    job.to_values(), name, workers, str(settings.home), str(checkpoint), max_failures, timeout_s
                )
            except ray_train.FinalError:
                raise  # a run resumed from the last checkpoint with the same settings would raise the same error
            except RuntimeError as error:
                raise StoppedError(str(error), run.run_id) from error
            record = {"run_id": run.run_id, "stage": stage, "corpus": store.uri, "snapshot": snapshot.version}
            (checkpoint / RUN_FILE).write_text(json.dumps(record | {"config_hash": config_hash(described)}, indent=1))
            run.set_tags({"weights_digest": file_digest(checkpoint / MODEL_FILE)})
            with tempfile.TemporaryDirectory(prefix="ffavatar-model-") as folder:
                example: dict[str, list[Any]] = {"person": ["example"], "photo": [example_photo()]}
                save_model(Path(folder) / "model", checkpoint / MODEL_FILE, SERVED, example)
                run.register_model(f"ffavatar-{stage}", Path(folder) / "model", score=metrics.get(SCORE))
            record_tracked_run(store, run, stage, snapshot.version, described, parent)
    steps = int(metrics.pop("step", 0))
    _create_artifact(stage, metrics, checkpoint, snapshot.version)
    return {"checkpoint": str(checkpoint), "run_id": run.run_id, "metrics": metrics, "steps": steps}


def _check_same_settings(
    run_id: str, begun_with: Mapping[str, Any], requested: Mapping[str, Any], path: str = ""
) -> None:
    """Raise ``ValueError`` for the first setting that differs from the value that the run began with."""
    for name in sorted({*begun_with, *requested} - set(RESUME_MAY_CHANGE)):
        old, new = begun_with.get(name), requested.get(name)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            _check_same_settings(run_id, old, new, f"{path}{name}.")
        elif old != new:
            raise ValueError(f"--resume {run_id}: it was begun with {path}{name}={old!r}, this call says {new!r}")


def _parent_run(init: str) -> str:
    """Return the id of the run that made a checkpoint; empty if there is no ``RUN_FILE`` beside the checkpoint."""
    path = Path(init).with_name(RUN_FILE) if init else None
    return str(json.loads(path.read_text()).get("run_id", "")) if path and path.is_file() else ""


def _create_artifact(stage: str, metrics: dict[str, Any], checkpoint: Path, version: str) -> None:
    rows = [f"| {name} | {value:.4g} |" for name, value in sorted(metrics.items()) if isinstance(value, float)]
    body = "\n".join(["| metric | value |", "|---|---|", *rows])
    create_markdown_artifact(f"# {stage} on {version}\n\n{body}\n\ncheckpoint: `{checkpoint}`", key=f"train-{stage}")
