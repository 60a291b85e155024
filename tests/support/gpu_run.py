"""A driver that a test runs: mines toy videos on a Ray with declared GPUs, and prints what the workers may use.

Arguments: corpus, number of GPUs. The output is JSON: outcomes by step (or ``error``), and by step the values of
CUDA_VISIBLE_DEVICES in its workers.
"""

from __future__ import annotations

import json
import os
import sys
from collections import defaultdict
from dataclasses import replace
from functools import partial
from pathlib import Path


def note_devices(folder, name, load):
    """Load a step's resource, and note the GPUs that the worker may use."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "all")
    (Path(folder) / f"{name}-{os.getpid()}").write_text(visible)
    return load()


if __name__ == "__main__":
    import ray

    from infra.storage import open_store
    from pipelines.engine.ray_data import EngineError, run_steps
    from pipelines.engine.step import Resources
    from tests.support import gpu_run, toy_mining

    corpus, gpus = Path(sys.argv[1]), int(sys.argv[2])
    noted = corpus.with_name("devices")
    noted.mkdir()
    ray.init(num_cpus=2, num_gpus=gpus, include_dashboard=False, object_store_memory=100 << 20, log_to_driver=False)
    ray.cloudpickle.register_pickle_by_value(toy_mining)
    ray.cloudpickle.register_pickle_by_value(gpu_run)
    share = {"tracks": 1 / 16, "embeddings": 1 / 16}
    steps = [
        replace(
            step,
            load=partial(gpu_run.note_devices, str(noted), step.name, step.load),
            resources=Resources(cpus=1, gpus=share.get(step.name, 0.0)),
        )
        for step in toy_mining.toy_steps()
    ]
    try:
        made = run_steps(steps, toy_mining.sources(20), open_store(corpus), "gpu", after=toy_mining.AFTER)
        outcomes = {summary.step: summary.ok for summary in made}
    except EngineError as error:
        outcomes = {"error": str(error)}
    devices = defaultdict(set)
    for path in noted.iterdir():
        devices[path.name.partition("-")[0]].add(path.read_text())
    print(json.dumps({"outcomes": outcomes, "devices": {name: sorted(seen) for name, seen in devices.items()}}))
