"""``ffavatar bench``: figures as JSON, one line each. One module a subject; each is a subcommand of its own."""

from __future__ import annotations

import json
import os
import platform
import sys
from typing import Any


def emit(bench: str, device: str = "", **figure: Any) -> None:
    """Print one figure as a JSON line: the bench, the machine (``device`` where it is not the processor), then it."""
    where = {"device": device or f"{os.cpu_count()} cores", "machine": platform.machine()}
    sys.stdout.write(json.dumps({"bench": bench, **where, **figure}) + "\n")
    sys.stdout.flush()
