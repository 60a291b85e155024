"""Benchmarks of ``ffavatar bench``: one module per subject; each prints its figures as lines of JSON."""

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
        device: Name of the device; empty for the number of cores.
        figure: Values of the figure by name.
    """
    where = {"device": device or f"{os.cpu_count()} cores", "machine": platform.machine()}
    sys.stdout.write(json.dumps({"bench": bench, **where, **figure}) + "\n")
    sys.stdout.flush()
