"""MLflow: the one place that knows it. Every run of every kind is recorded here; embeddings never are."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from mlflow.entities import Dataset, DatasetInput, InputTag, RunStatus
from mlflow.exceptions import MlflowException
from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor
from mlflow.tracking import MlflowClient

from infra.settings import Settings
from mfhq.ids import digest

log = logging.getLogger(__name__)
logging.getLogger("mlflow").setLevel(logging.WARNING)  # it tells the terminal of every table that it makes

EXPERIMENT = "ffavatar"
_PARAM_LENGTH = 500
_DIGEST_LENGTH = 36
"""As long as MLflow lets a dataset's digest be."""
CONFIG_FILE = "config.json"
"""A run's settings, whole."""


class TrackedRun:
    """A run by its id: any process that knows the tracking URI and the id can log to it (rank 0 does)."""

    def __init__(self, tracking_uri: str, run_id: str) -> None:
        self.tracking_uri = tracking_uri
        self.run_id = run_id
        self._client = MlflowClient(tracking_uri=tracking_uri)

    def metrics(self, values: Mapping[str, float], step: int | None = None) -> None:
        """Log numbers, at a training step where one is given."""
        for name, value in values.items():
            self._client.log_metric(self.run_id, name, float(value), step=step)

    def params(self, values: Mapping[str, Any]) -> None:
        """Log settings; nested mappings get dotted names, long values are cut."""
        for name, value in _flat(values):
            self._client.log_param(self.run_id, name, str(value)[:_PARAM_LENGTH])

    def tags(self, values: Mapping[str, str]) -> None:
        """Set tags."""
        for name, value in values.items():
            self._client.set_tag(self.run_id, name, value)

    def file(self, path: Path, folder: str | None = None) -> None:
        """Keep a file with the run."""
        self._client.log_artifact(self.run_id, str(path), folder)

    def bytes(self, data: bytes, name: str) -> None:
        """Keep bytes with the run, under a path such as ``pictures/000010.png``."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / Path(name).name
            path.write_bytes(data)
            parent = str(Path(name).parent)
            self.file(path, None if parent == "." else parent)

    def config(self) -> dict[str, Any]:
        """The settings that the run was begun with. Raises ``ValueError`` where there is no such run."""
        try:
            with tempfile.TemporaryDirectory() as folder:
                found: dict[str, Any] = json.loads(
                    Path(self._client.download_artifacts(self.run_id, CONFIG_FILE, folder)).read_text()
                )
        except (MlflowException, OSError) as error:
            raise ValueError(f"run {self.run_id!r}: not in {self.tracking_uri}, or without {CONFIG_FILE}") from error
        return found

    def json(self, value: Any, name: str) -> None:
        """Keep a value with the run, as a JSON file."""
        self._client.log_dict(self.run_id, value, name)

    def table(self, value: pa.Table, name: str) -> None:
        """Keep a table with the run, as a Parquet file."""
        sink = io.BytesIO()
        pq.write_table(value, sink, compression="zstd")
        self.bytes(sink.getvalue(), name)

    @contextmanager
    def system_metrics(self) -> Iterator[None]:
        """Log processor, memory, disk, network and GPU of this machine (``system/…``) every few seconds meanwhile."""
        monitor = SystemMetricsMonitor(self.run_id, resume_logging=True, tracking_uri=self.tracking_uri)
        monitor.start()
        try:
            yield
        finally:
            monitor.finish()

    def snapshot(self, corpus_uri: str, version: str, snapshot_digest: str, role: str) -> None:
        """Record the corpus snapshot that the run read or wrote (``role``: the dataset input's context)."""
        dataset = Dataset(
            name=f"{Path(corpus_uri).name}@{version}",
            digest=snapshot_digest[:_DIGEST_LENGTH],
            source_type="corpus",
            source=json.dumps({"uri": corpus_uri, "snapshot": version}),
        )
        self._client.log_inputs(self.run_id, datasets=[DatasetInput(dataset, [InputTag("mlflow.data.context", role)])])
        self.tags({"corpus": corpus_uri, "snapshot": version, "snapshot_digest": snapshot_digest})

    def register(self, name: str, checkpoint: Path, alias: str = "newest") -> str:
        """Keep a checkpoint file as a version of a registered model; returns the version."""
        self.file(checkpoint, "model")
        try:
            self._client.create_registered_model(name)
        except MlflowException:  # it is there already
            self._client.get_registered_model(name)
        uri = f"{self._client.get_run(self.run_id).info.artifact_uri}/model"
        version = self._client.create_model_version(name, uri, self.run_id).version
        self._client.set_registered_model_alias(name, alias, version)
        return str(version)


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def config_hash(config: Mapping[str, Any]) -> str:
    """A digest of a configuration, the same for equal values in any order."""
    return digest(config, 16)


def git_revision() -> str:
    """Revision of the code that runs, with ``-dirty`` where files differ from it; ``unknown`` outside a checkout."""
    root = Path(__file__).resolve().parent.parent
    try:
        out = subprocess.run(
            ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return out.stdout.strip() or "unknown"


@contextmanager
def tracked_run(
    settings: Settings, kind: str, name: str, config: Mapping[str, Any], parent_run_id: str = "", run_id: str = ""
) -> Iterator[TrackedRun]:
    """A new run: config and its hash, git revision, parent; ended as finished, or as failed when the block raises.

    With ``run_id`` that run goes on instead, as what it was begun.

    Args:
        kind: mine, cluster, publish, studio, pretrain, multiview, personalize ...: the tag ``kind``.
        name: what the run is called in the list.
        config: nested settings, logged as params and whole as ``config.json``.
        parent_run_id: the run that this one continues (the stage before), shown as MLflow's parent.
    """
    settings.home.mkdir(parents=True, exist_ok=True)
    client = MlflowClient(tracking_uri=settings.tracking_uri)
    if not run_id:
        run_id = _create_run(client, settings, kind, name, config, parent_run_id)
    client.update_run(run_id, status=RunStatus.to_string(RunStatus.RUNNING))
    run = TrackedRun(settings.tracking_uri, run_id)
    try:
        yield run
    except BaseException as error:
        run.tags({"error": f"{type(error).__name__}: {error}"[:_PARAM_LENGTH]})
        client.set_terminated(run_id, RunStatus.to_string(RunStatus.FAILED))
        raise
    client.set_terminated(run_id, RunStatus.to_string(RunStatus.FINISHED))


def _create_run(
    client: MlflowClient, settings: Settings, kind: str, name: str, config: Mapping[str, Any], parent_run_id: str
) -> str:
    experiment = client.get_experiment_by_name(EXPERIMENT)
    if experiment is None:
        embedded = settings.tracking_uri.startswith("sqlite:")
        experiment_id = client.create_experiment(EXPERIMENT, artifact_location=settings.artifacts if embedded else None)
    else:
        experiment_id = experiment.experiment_id
    tags = {"kind": kind, "git_revision": git_revision(), "config_hash": config_hash(config)}
    if parent_run_id:
        tags |= {"mlflow.parentRunId": parent_run_id, "parent_run_id": parent_run_id}
    run = TrackedRun(settings.tracking_uri, client.create_run(experiment_id, tags=tags, run_name=name).info.run_id)
    run.params(config)
    run.json(dict(config), CONFIG_FILE)
    return run.run_id


def file_digest(path: Path) -> str:
    """sha256 of a file, hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
