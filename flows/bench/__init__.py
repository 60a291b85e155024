"""Benchmarks of ``ffavatar bench``: figures as JSON, one line each; one module for each subject."""

from __future__ import annotations

import json
import os
import platform
import sys
from typing import Any


def emit(bench: str, device: str = "", **figure: Any) -> None:
    """Print one figure as a JSON line.

    Args:
        bench: Name of the benchmark.
        device: Name of the device; by default the number of cores.
        figure: Values of the figure.
    """
    where = {"device": device or f"{os.cpu_count()} cores", "machine": platform.machine()}
    sys.stdout.write(json.dumps({"bench": bench, **where, **figure}) + "\n")
    sys.stdout.flush()
