"""Settings from the environment, and the defaults that the command line, the flows and Ray Train share."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

MAX_FAILURES = 1
"""Times that a training job is restarted from its last checkpoint."""
TIMEOUT_S = 1800
"""Seconds that training workers wait for one another, and for their place in the cluster."""
PUBLISH_PRESET = "small"
"""Name of the publish thresholds (``pipelines.publishing.publish_presets``)."""
MODEL_PRESET = "tiny"
"""Name of the model's size (``ffavatar_model.presets``)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """Places and services of this process: the same commands run on a laptop and, with variables set, on a cluster."""

    home: Path
    """FFAVATAR_HOME, default ``~/.ffavatar``: runs, logs, checkpoints, the tracking database."""
    tracking_uri: str
    """MLFLOW_TRACKING_URI, default an sqlite file in ``home``."""
    ray_address: str | None
    """RAY_ADDRESS, default none: Ray starts on this process's machine and stops with it."""
    train_storage: str
    """FFAVATAR_TRAIN_STORAGE, default a folder in ``home``: where Ray Train keeps checkpoints (a path or s3://)."""

    @property
    def artifacts(self) -> str:
        """URI of MLflow's images and models, used when its database is the embedded one."""
        return (self.home / "artifacts").as_uri()

    @property
    def logs(self) -> Path:
        """Folder of the log files that one-line errors point to."""
        return self.home / "logs"


def load_settings(home: str | Path | None = None) -> Settings:
    """Read the settings from the environment.

    Args:
        home: Replaces FFAVATAR_HOME; None or empty leaves it.
    """
    root = Path(home or os.environ.get("FFAVATAR_HOME") or Path.home() / ".ffavatar").expanduser().resolve()
    return Settings(
        home=root,
        tracking_uri=os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{root / 'mlflow.db'}",
        ray_address=os.environ.get("RAY_ADDRESS") or None,
        train_storage=os.environ.get("FFAVATAR_TRAIN_STORAGE") or str(root / "train"),
    )


def quiet_services(settings: Settings) -> None:
    """Set what Prefect, Ray and MLflow read from the environment at import; call it before importing them.

    Analytics are off; Prefect's embedded server gets time to start (its default is too short on two cores) and a
    database in ``home`` (the folder is made here: Prefect does not make those above it). Variables that the user has
    set are left alone.

    Raises:
        ValueError: ``home`` cannot be made.
    """
    try:
        (settings.home / "prefect").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"{settings.home}: cannot be made ({error.strerror}); set FFAVATAR_HOME to another") from error
    for name, value in {
        "DO_NOT_TRACK": "1",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
        "PREFECT_HOME": str(settings.home / "prefect"),
        "PREFECT_LOGGING_LEVEL": "WARNING",
        "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_BACKEND_LOG_LEVEL": "fatal",
        "RAY_TRAIN_V2_ENABLED": "1",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
        "RAY_TRAIN_ENABLE_STATE_TRACKING": "0",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        "GIT_PYTHON_REFRESH": "quiet",
        "TOKENIZERS_PARALLELISM": "false",
    }.items():
        os.environ.setdefault(name, value)
