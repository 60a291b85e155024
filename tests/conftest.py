"""One Ray session, one Prefect server and one browser for the whole run; where the real clips are."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from infra.settings import Settings, load_settings, quiet_services

if TYPE_CHECKING:
    from pipelines.studio.captures.capture_studio import CaptureStudio
    from pipelines.studio.people.open_source import OpenSource
    from pipelines.studio.studio_head import StudioHead


@pytest.hookimpl(tryfirst=True)  # before the marks are selected by ``-m``
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests that use Ray or Prefect's server with ``ray``: ``make test`` gives them a process of their own."""
    for item in items:
        if {"ray_session", "prefect_server"} & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.ray)


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
def studio_head() -> StudioHead:
    """The studio's head, built once into the machine's cache (FFAVATAR_CACHE)."""
    from pipelines.faces.weight_cache import cache_dir
    from pipelines.studio.studio_head import load_studio_head

    return load_studio_head(cache_dir())


@pytest.fixture(scope="session")
def plain_people() -> OpenSource:
    """People of the open head with painted skins and hair, opened once."""
    from ffavatar_model.head.open_head import build_open_head
    from pipelines.faces.weight_cache import cache_dir
    from pipelines.studio.looks.plain_looks import painted_looks
    from pipelines.studio.people.open_source import open_source

    source = open_source(cache_dir(), build_open_head)
    return replace(source, looks=painted_looks(source))


@pytest.fixture(scope="session")
def capture_studio() -> CaptureStudio:
    """The studio of captures and portraits with painted people, opened once."""
    from pipelines.faces.weight_cache import cache_dir
    from pipelines.studio.captures.capture_studio import open_capture_studio

    return open_capture_studio(cache_dir())


@pytest.fixture(scope="session")
def ava256_source(capture_studio: CaptureStudio, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two rendered captures in Ava-256's layout: four cameras, three segments of a frame each, small pictures."""
    from pipelines.studio.captures.ava256_layout import Ava256Spec, write_ava256

    root = tmp_path_factory.mktemp("ava256")
    spec = Ava256Spec(n_cameras=4, frames=3, height=256, absent=0.08, uv_size=250)
    assert len(list(write_ava256(capture_studio, root, 2, spec))) == 2
    return root


@pytest.fixture(scope="session")
def clips() -> Path:
    """The folder of real clips; the test is skipped where FFAVATAR_CLIPS does not name one."""
    where = os.environ.get("FFAVATAR_CLIPS", "")
    if not where or not Path(where).is_dir():
        pytest.skip("FFAVATAR_CLIPS does not name a folder of clips")
    return Path(where)


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Chromium without a window, driven by selenium; WebGL2 by its software renderer."""
    pytest.importorskip("selenium", reason="selenium is not installed (the extra `dev` has it)")
    program, driver = (shutil.which(name) for name in ("chromium", "chromedriver"))
    if not program or not driver:
        pytest.skip("no chromium and chromedriver on this machine")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = program
    for flag in (
        *("headless=new", "no-sandbox", "use-angle=swiftshader", "enable-unsafe-swiftshader", "disable-quic"),
        *("no-first-run", "disable-sync", "disable-background-networking", "disable-component-update"),
        *("disable-dev-shm-usage", "window-size=1280,900", f"user-data-dir={tmp_path_factory.mktemp('chromium')}"),
    ):
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    opened = webdriver.Chrome(options, webdriver.ChromeService(driver))
    opened.set_page_load_timeout(120)
    opened.set_script_timeout(120)
    yield opened
    opened.quit()


@pytest.fixture
def browser(chromium: Any) -> Iterator[Any]:
    """The run's browser with a window of 1280 x 900, an empty page and nothing logged."""
    chromium.set_window_size(1280, 900)
    for kind in ("browser", "performance"):
        chromium.get_log(kind)
    yield chromium
    chromium.get("about:blank")


@pytest.fixture(scope="session")
def kit() -> Callable[..., Any]:
    """``kit(question, argument…, benchmark=folder)``: an answer of ``nersemble_kit.py``.

    The interpreter is FFAVATAR_NERSEMBLE_PYTHON's (the kits bring open3d and another OpenCV, so they best live in an
    environment of their own), or this one where it has the kits.
    """
    python = os.environ.get("FFAVATAR_NERSEMBLE_PYTHON", "")
    if not python and importlib.util.find_spec("nersemble_benchmark") and importlib.util.find_spec("nersemble_data"):
        python = sys.executable
    if not python:
        pytest.skip("no nersemble-data and nersemble-benchmark here, and FFAVATAR_NERSEMBLE_PYTHON names no Python")

    def ask(question: str, *words: object, benchmark: Path | None = None) -> Any:
        environment = os.environ | {"NERSEMBLE_BENCHMARK_URL": benchmark.as_uri() if benchmark else "file:///nowhere"}
        environment.pop("PYTHONPATH", None)  # the kit's own packages, not this source tree
        command = [python, str(Path(__file__).with_name("support") / "nersemble_kit.py"), question, *map(str, words)]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=600)
        assert done.returncode == 0, done.stderr[-2000:]
        return json.loads(done.stdout.strip().splitlines()[-1])

    return ask
