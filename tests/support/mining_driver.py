"""A process that a test kills or starts twice: toy videos, every step, no Ray. Arguments: corpus, number, run."""

from __future__ import annotations

import sys

if __name__ == "__main__":
    from infra.storage import open_store
    from tests.support.toy_run import run_toy

    run_toy(open_store(sys.argv[1]), int(sys.argv[2]), run_id=sys.argv[3], seconds=0.01, batch=4)
