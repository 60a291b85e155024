"""One Ray session and one Prefect server for the whole run; where the real clips are."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.settings import Settings, load_settings, quiet_services


@pytest.fixture(scope="session")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Embedded defaults in a folder of this run; the environment that quiets the services is set."""
    made = load_settings(tmp_path_factory.mktemp("home"))
    quiet_services(made)
    return made


@pytest.fixture(scope="session")
def ray_session(settings: Settings) -> Iterator[None]:
    """A local Ray, started once a run."""
    from infra.ray_session import ray_session as session

    with session(settings):
        yield


@pytest.fixture(scope="session")
def prefect_server(settings: Settings) -> Iterator[None]:
    """Prefect's own test harness (a temporary database and server), started once a run."""
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness(server_startup_timeout=120):
        yield


@pytest.fixture(scope="session")
def clips() -> Path:
    """The folder of real clips; the test is skipped where FFAVATAR_CLIPS does not name one."""
    where = os.environ.get("FFAVATAR_CLIPS", "")
    if not where or not Path(where).is_dir():
        pytest.skip("FFAVATAR_CLIPS does not name a folder of clips")
    return Path(where)
