"""A driver that a test kills: mines toy videos, slowly, on a Ray of its own. Arguments: corpus, number of videos."""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    import ray
    import toy_mining

    from infra.storage import open_store
    from pipelines.engine import run_steps

    ray.init(num_cpus=2, include_dashboard=False, object_store_memory=100 << 20, log_to_driver=False)
    ray.cloudpickle.register_pickle_by_value(toy_mining)
    steps = toy_mining.toy_steps(seconds=0.5)
    run_steps(steps, toy_mining.sources(int(sys.argv[2])), open_store(sys.argv[1]), "killed", after=toy_mining.AFTER)
