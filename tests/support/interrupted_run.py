"""A driver that a test kills: mines toy videos, slowly, on a Ray of its own. Arguments: corpus, number of videos."""

from __future__ import annotations

import sys

if __name__ == "__main__":
    import ray

    from infra.storage import open_store
    from pipelines.engine.ray_data import run_steps
    from tests.support import toy_mining

    ray.init(num_cpus=2, include_dashboard=False, object_store_memory=100 << 20, log_to_driver=False)
    ray.cloudpickle.register_pickle_by_value(toy_mining)
    steps = toy_mining.toy_steps(seconds=0.5)
    run_steps(steps, toy_mining.sources(int(sys.argv[2])), open_store(sys.argv[1]), "killed", after=toy_mining.AFTER)
