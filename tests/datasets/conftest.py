"""The official NeRSemble kits as an outside arbiter, where an interpreter has them."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Kit = Callable[..., Any]


@pytest.fixture(scope="session")
def kit() -> Kit:
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
        command = [python, str(Path(__file__).with_name("nersemble_kit.py")), question, *map(str, words)]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
        assert done.returncode == 0, done.stderr[-2000:]
        return json.loads(done.stdout.strip().splitlines()[-1])

    return ask
