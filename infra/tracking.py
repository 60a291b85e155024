"""Runs in MLflow, for every kind of run. No other module imports MLflow, and embeddings are never logged."""

from __future__ import annotations

import io
import json
import logging
import math
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, RunStatus
from mlflow.exceptions import MlflowException
from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor
from mlflow.tracking import MlflowClient
from mlflow.utils.async_logging.run_operations import RunOperations

from infra.settings import Settings, setup_lock
from mfhq.ids import digest, digest_file
from mfhq.masking import mask_secrets

logging.getLogger("mlflow").setLevel(logging.WARNING)  # at INFO it prints a line for every database table it creates

EXPERIMENT = "ffavatar"
"""Name of the experiment that holds every run."""
CONFIG_FILE = "config.json"
"""Name of the artifact with all settings of a run."""
CHAMPION, SCORE_TAG = "champion", "held_out_score"
"""Alias of a registered model's version with the highest score, and the tag of a version that has its score."""
MOST_SENT = 1000
"""Most requests for metrics that a thread may have to send before the next step waits for them."""
MAX_BATCH = 1000
"""Most metrics in one request that MLflow accepts."""
_PARAM_LENGTH = 500
_DIGEST_LENGTH = 36
"""Most characters of a dataset's digest that MLflow accepts."""


def tracked_corpora(tracking_uri: str) -> set[str]:
    """Return the URI of every corpus that a tracked run made or read.

    Args:
        tracking_uri: URI of MLflow's server or database.
    """
    client, found, token = MlflowClient(tracking_uri=tracking_uri), set[str](), None
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    while experiments:
        page = client.search_runs(experiments, max_results=1000, page_token=token)
        found |= {run.data.tags["corpus"] for run in page if "corpus" in run.data.tags}
        if not (token := page.token):
            break
    return found


class _LoadMonitor(SystemMetricsMonitor):
    """MLflow's monitor, whose first sample of the CPU is a load and not 0 %."""

    def monitor(self) -> None:
        """Sample until the run ends; psutil counts from the call before it in this thread, so make one first."""
        psutil.cpu_percent()
        self._shutdown_event.wait(0.5)
        super().monitor()


class TrackedRun:
    """Run in MLflow; any process that has the tracking URI and the run's id can log to it."""

    def __init__(self, tracking_uri: str, run_id: str) -> None:
        self.tracking_uri = tracking_uri
        self.run_id = run_id
        self._client = MlflowClient(tracking_uri=tracking_uri)
        self._sent: list[RunOperations] = []

    @property
    def page(self) -> str:
        """URL of the run's page on MLflow's server; empty if runs are tracked in a file."""
        if not self.tracking_uri.startswith("http"):
            return ""
        experiment = self._client.get_run(self.run_id).info.experiment_id
        return f"{mask_secrets(self.tracking_uri.rstrip('/'))}/#/experiments/{experiment}/runs/{self.run_id}"

    def log_metrics(self, values: Mapping[str, float], step: int | None = None, wait: bool = True) -> None:
        """Log metrics, in one request.

        Args:
            values: Metrics by name.
            step: Training step of the metrics; None for none.
            wait: False to return at once, while a thread sends the metrics; ``flush_metrics`` waits for it.
        """
        at = int(1000 * time.time())
        batch = [Metric(name, float(value), at, step or 0) for name, value in values.items()]
        for first in range(0, len(batch), MAX_BATCH):
            sent = self._client.log_batch(self.run_id, metrics=batch[first : first + MAX_BATCH], synchronous=wait)
            self._sent += [sent] if sent is not None else []
        if len(self._sent) >= MOST_SENT:
            self.flush_metrics()

    def flush_metrics(self) -> None:
        """Wait until all metrics are stored.

        Raises:
            MlflowException: The server refused them, or did not answer.
        """
        for sent in self._sent:
            sent.wait()
        self._sent = []

    def log_params(self, values: Mapping[str, Any]) -> None:
        """Log settings, with secrets masked; those in nested mappings get dotted names, and long values are cut."""
        for name, value in _flat(values):
            self._client.log_param(self.run_id, name, mask_secrets(str(value))[:_PARAM_LENGTH])

    def set_tags(self, values: Mapping[str, str]) -> None:
        """Set tags of the run, with secrets masked."""
        for name, value in values.items():
            self._client.set_tag(self.run_id, name, mask_secrets(value))

    def log_file(self, path: Path, folder: str | None = None) -> None:
        """Store a file as an artifact of the run.

        Args:
            path: The file.
            folder: Folder among the run's artifacts; None for their root.
        """
        self._client.log_artifact(self.run_id, str(path), folder)

    def log_bytes(self, data: bytes, name: str) -> None:
        """Store bytes as an artifact of the run.

        Args:
            data: Contents of the artifact.
            name: Path of the artifact, such as ``pictures/000010.png``.
        """
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / Path(name).name
            path.write_bytes(data)
            parent = str(Path(name).parent)
            self.log_file(path, None if parent == "." else parent)

    def read_config(self) -> dict[str, Any]:
        """Read the settings with which the run began.

        Raises:
            ValueError: There is no such run, or it has no ``CONFIG_FILE``.
        """
        try:
            with tempfile.TemporaryDirectory() as folder:
                config: dict[str, Any] = json.loads(
                    Path(self._client.download_artifacts(self.run_id, CONFIG_FILE, folder)).read_text()
                )
        except (MlflowException, OSError) as error:
            raise ValueError(f"run {self.run_id!r}: not in {self.tracking_uri}, or without {CONFIG_FILE}") from error
        return config

    def log_json(self, value: Any, name: str) -> None:
        """Store a value as the run's artifact ``name``, a JSON file with secrets masked."""
        self._client.log_dict(self.run_id, _masked(value), name)

    def log_table(self, value: pa.Table, name: str) -> None:
        """Store a table as the run's artifact ``name``, a Parquet file."""
        sink = io.BytesIO()
        pq.write_table(value, sink, compression="zstd")
        self.log_bytes(sink.getvalue(), name)

    @contextmanager
    def log_system_metrics(self) -> Iterator[None]:
        """Log the usage of this machine's CPU, memory, disk, network and GPU (``system/…``) while the block runs."""
        monitor = _LoadMonitor(self.run_id, resume_logging=True, tracking_uri=self.tracking_uri)
        monitor.start()
        try:
            yield
        finally:
            monitor.finish()

    def log_snapshot(self, corpus_uri: str, version: str, snapshot_digest: str, role: str) -> None:
        """Record the corpus snapshot that the run read or wrote.

        Args:
            corpus_uri: URI of the corpus.
            version: Name of the snapshot, such as ``v0003``.
            snapshot_digest: Digest of the snapshot, hexadecimal.
            role: Role of the snapshot in the run: training, output ...
        """
        dataset = Dataset(
            name=f"{Path(corpus_uri).name}@{version}",
            digest=snapshot_digest[:_DIGEST_LENGTH],
            source_type="corpus",
            source=json.dumps({"uri": corpus_uri, "snapshot": version}),
        )
        self._client.log_inputs(self.run_id, datasets=[DatasetInput(dataset, [InputTag("mlflow.data.context", role)])])
        self.set_tags({"corpus": corpus_uri, "snapshot": version, "snapshot_digest": snapshot_digest})

    def register_model(self, name: str, model: Path, score: float | None = None) -> str:
        """Store a model's files as a new version of a registered model.

        The alias ``newest`` moves to the new version, and ``champion`` does if its score is above the champion's.

        Args:
            name: Name of the registered model, which is created if missing.
            model: A folder that ``infra.tracking_model.save_model`` wrote.
            score: Score on held-out data, higher is better, stored as the version's tag ``SCORE_TAG``; None if it was
                not measured: the version does not become the champion.

        Returns:
            The new version.
        """
        self._client.log_artifacts(self.run_id, str(model), "model")
        try:
            self._client.create_registered_model(name)
        except MlflowException:  # the model exists already
            self._client.get_registered_model(name)
        uri = f"{self._client.get_run(self.run_id).info.artifact_uri}/model"
        version = self._client.create_model_version(name, uri, self.run_id).version
        self._client.set_registered_model_alias(name, "newest", version)
        if score is not None and math.isfinite(score):
            self._client.set_model_version_tag(name, version, SCORE_TAG, repr(float(score)))
            if score > self._champion_score(name):
                self._client.set_registered_model_alias(name, CHAMPION, version)
        return str(version)

    def _champion_score(self, name: str) -> float:
        """Return the score of a model's champion; minus infinity if it has none."""
        try:
            champion = self._client.get_model_version_by_alias(name, CHAMPION)
        except MlflowException:  # no version has the alias
            return -math.inf
        return float(champion.tags.get(SCORE_TAG, -math.inf))


def _masked(value: Any) -> Any:
    """Return a value of JSON with the secrets in its texts masked."""
    if isinstance(value, Mapping):
        return {key: _masked(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_masked(inner) for inner in value]
    return mask_secrets(value) if isinstance(value, str) else value


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def config_hash(config: Mapping[str, Any]) -> str:
    """Return a digest of a configuration, 16 hexadecimal characters; the order of its keys does not matter."""
    return digest(config, 16)


def git_revision() -> str:
    """Return the git revision of the code, with ``-dirty`` if files were changed; ``unknown`` outside a checkout."""
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
    """Begin a run, and end it when the block ends: as finished, as failed if the block raises an ``Exception``, or as
    killed if it is interrupted or cancelled.

    A new run records its config and the config's hash, the git revision, and its parent run.

    Args:
        settings: Settings with the tracking URI.
        kind: Kind of the run, its tag ``kind``: mine, cluster, publish, studio, pretrain, multiview, personalize ...
        name: Name of the run in MLflow's list.
        config: Nested settings, logged as MLflow params and as the artifact ``CONFIG_FILE``.
        parent_run_id: Id of MLflow's parent run: the run that this run continues or is a part of; empty for none.
        run_id: Id of a run to continue instead of beginning a new one; its kind, name and config stay unchanged.

    Yields:
        The run.
    """
    with setup_lock(settings.home, "mlflow"):  # the first command makes the database and the experiment
        client = MlflowClient(tracking_uri=settings.tracking_uri)
        experiment_id = _experiment_id(client, settings)
    if not run_id:
        run_id = _create_run(client, settings, experiment_id, kind, name, config, parent_run_id)
    client.update_run(run_id, status=RunStatus.to_string(RunStatus.RUNNING))
    run = TrackedRun(settings.tracking_uri, run_id)
    try:
        yield run
    except BaseException as error:
        run.set_tags({"error": mask_secrets(f"{type(error).__name__}: {error}")[:_PARAM_LENGTH]})
        ended = RunStatus.FAILED if isinstance(error, Exception) else RunStatus.KILLED
        client.set_terminated(run_id, RunStatus.to_string(ended))
        raise
    client.set_terminated(run_id, RunStatus.to_string(RunStatus.FINISHED))


def _create_run(
    client: MlflowClient,
    settings: Settings,
    experiment_id: str,
    kind: str,
    name: str,
    config: Mapping[str, Any],
    parent_run_id: str,
) -> str:
    tags = {"kind": kind, "git_revision": git_revision(), "config_hash": config_hash(config)}
    if parent_run_id:
        tags |= {"mlflow.parentRunId": parent_run_id, "parent_run_id": parent_run_id}
    run = TrackedRun(settings.tracking_uri, client.create_run(experiment_id, tags=tags, run_name=name).info.run_id)
    run.log_params(config)
    run.log_json(dict(config), CONFIG_FILE)
    return run.run_id


def _experiment_id(client: MlflowClient, settings: Settings) -> str:
    """Return the id of the experiment, which is created if it is missing."""
    found = client.get_experiment_by_name(EXPERIMENT)
    if found is None:
        embedded = settings.tracking_uri.startswith("sqlite:")
        try:
            location = settings.artifacts if embedded else None
            return str(client.create_experiment(EXPERIMENT, artifact_location=location))
        except MlflowException:  # a command on another machine was first
            found = client.get_experiment_by_name(EXPERIMENT)
            if found is None:
                raise
    return str(found.experiment_id)


def file_digest(path: Path) -> str:
    """Return the sha256 of a file, hexadecimal."""
    with path.open("rb") as stream:
        return digest_file(stream)
