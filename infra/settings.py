"""Where things are kept and which services are used: embedded defaults, each overridden by an environment variable."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

MAX_FAILURES, TIMEOUT_S = 1, 1800
"""Of a training job: how often it is begun again from its last checkpoint; how long workers wait for one another."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """The same commands run on a laptop (all defaults) and on a cluster (the variables set)."""

    home: Path
    """FFAVATAR_HOME, default ``~/.ffavatar``: runs, logs, checkpoints, the tracking database."""
    tracking_uri: str
    """MLFLOW_TRACKING_URI, default an sqlite file in ``home``."""
    ray_address: str | None
    """RAY_ADDRESS, default none: Ray starts in this process's machine and stops with it."""
    train_storage: str
    """FFAVATAR_TRAIN_STORAGE, default a folder in ``home``: where Ray Train keeps checkpoints (a path or s3://)."""

    @property
    def artifacts(self) -> str:
        """Where MLflow keeps pictures and models when its database is the embedded one."""
        return (self.home / "artifacts").as_uri()

    @property
    def logs(self) -> Path:
        """Folder of the log files that one-line errors point to."""
        return self.home / "logs"


def load_settings(home: str | Path | None = None) -> Settings:
    """Settings from the environment; ``home`` given here wins over FFAVATAR_HOME."""
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
    set are left alone. Raises ``ValueError`` where ``home`` cannot be made.
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
