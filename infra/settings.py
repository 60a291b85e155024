"""Settings from environment variables, and defaults that the command line, the flows and Ray Train share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

MAX_FAILURES = 1
"""Most restarts of a training job from its last checkpoint."""
TIMEOUT_S = 1800
"""Longest time that training workers wait for one another, and for a place in the cluster, seconds."""
PRIVATE_FOLDER = 0o700
"""Mode of the folders that only the user may enter: the home of runs and logs, and biometric data."""
PUBLISH_PRESET: Final = "small"
"""Default preset of the publish thresholds (``pipelines.publishing.publish_presets``)."""
MODEL_PRESET = "tiny"
"""Default preset of the model's size (``ffavatar_model.presets``)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """Folders and services that this process uses.

    With the defaults everything runs on one machine; with the variables set, the same commands use a cluster.
    """

    home: Path
    """Folder of runs, logs, checkpoints and the tracking database; FFAVATAR_HOME, by default ``~/.ffavatar``."""
    tracking_uri: str
    """URI of MLflow's server or database; MLFLOW_TRACKING_URI, by default an SQLite file in ``home``."""
    ray_address: str | None
    """Address of a Ray cluster; RAY_ADDRESS, by default None: each command starts and stops Ray on this machine."""
    faces_device: str
    """Device of the face networks of mining; FFAVATAR_FACES_DEVICE: auto (a GPU if one can be used), cpu or cuda."""
    fetch_bytes: int | None
    """Upper bound on the bytes of remote files that are fetched before they are mined; FFAVATAR_FETCH_BYTES, by default
    None: half of the free disk."""
    max_workers: int
    """Upper bound on the workers of a step that Ray may be asked for, so that a cluster's autoscaler starts machines;
    FFAVATAR_MAX_WORKERS, by default 0: as many as the machines of now can run."""
    train_storage: str
    """Path or s3:// prefix of Ray Train's checkpoints; FFAVATAR_TRAIN_STORAGE, by default a folder in ``home``."""

    @property
    def artifacts(self) -> str:
        """URI of the folder for MLflow's artifacts, used if MLflow's database is an SQLite file."""
        return (self.home / "artifacts").as_uri()

    @property
    def logs(self) -> Path:
        """Folder of the log files, which have the tracebacks of errors that are printed as one line."""
        return self.home / "logs"


def load_settings(home: str | Path | None = None) -> Settings:
    """Read the settings from the environment.

    Args:
        home: Folder to use instead of FFAVATAR_HOME; None or empty to use FFAVATAR_HOME.

    Raises:
        ValueError: A variable that is a number has another value.
    """
    root = Path(home or os.environ.get("FFAVATAR_HOME") or Path.home() / ".ffavatar").expanduser().resolve()
    return Settings(
        home=root,
        tracking_uri=os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{root / 'mlflow.db'}",
        ray_address=os.environ.get("RAY_ADDRESS") or None,
        faces_device=os.environ.get("FFAVATAR_FACES_DEVICE") or "auto",
        fetch_bytes=_whole_number("FFAVATAR_FETCH_BYTES"),
        max_workers=_whole_number("FFAVATAR_MAX_WORKERS") or 0,
        train_storage=os.environ.get("FFAVATAR_TRAIN_STORAGE") or str(root / "train"),
    )


def _whole_number(name: str) -> int | None:
    """Return the value of an environment variable; None if it is not set or empty."""
    text = os.environ.get(name)
    if not text:
        return None
    if not text.isdigit() or int(text) < 1:
        raise ValueError(f"{name} is {text!r}; it must be a whole number, 1 or more")
    return int(text)


@contextmanager
def setup_lock(home: Path, service: str) -> Iterator[None]:
    """Hold a lock between processes while a service's database is made, so that two first commands both succeed.

    Args:
        home: Folder of runs and logs, on one machine; created if missing.
        service: Name of the service.
    """
    from filelock import FileLock

    home.mkdir(parents=True, exist_ok=True, mode=PRIVATE_FOLDER)
    with FileLock(home / f".{service}.lock"):
        yield


QUIET = {
    "DO_NOT_TRACK": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    "RAY_TRAIN_V2_ENABLED": "1",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_TRAIN_ENABLE_STATE_TRACKING": "0",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "GIT_PYTHON_REFRESH": "quiet",
    "TOKENIZERS_PARALLELISM": "false",
}
"""Environment variables that Ray and MLflow read when they are imported: no telemetry, few lines, version 2 of Train.

A deployment hands them to the process of its runs."""


def quiet_services(settings: Settings) -> None:
    """Set environment variables that Prefect, Ray and MLflow read; call this function before importing them.

    Analytics are turned off. Prefect's embedded server gets more time to start, because its default is too short on two
    cores, and a database in ``home``. The database's folder is created here, because Prefect does not create parent
    folders. Variables that the user has set stay unchanged.

    Raises:
        ValueError: The folder ``home`` cannot be created.
    """
    try:
        settings.home.mkdir(parents=True, exist_ok=True, mode=PRIVATE_FOLDER)
        (settings.home / "prefect").mkdir(exist_ok=True, mode=PRIVATE_FOLDER)
    except OSError as error:
        raise ValueError(f"{settings.home}: cannot be made ({error.strerror}); set FFAVATAR_HOME to another") from error
    for name, value in {
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
        "PREFECT_HOME": str(settings.home / "prefect"),
        "PREFECT_LOGGING_LEVEL": "WARNING",
        "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
        **QUIET,
    }.items():
        os.environ.setdefault(name, value)
