"""Assignment of GPUs to the steps' workers by a real Ray, on which GPUs are declared that are not there."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from infra.storage import open_store
from mfhq.corpus_tables import read_attempts
from tests.support.toy_run import run_toy


def run_with_gpus(corpus: Path, gpus: int) -> dict:
    command = [sys.executable, "-m", "tests.support.gpu_run", str(corpus), str(gpus)]
    done = subprocess.run(command, cwd=Path(__file__).parents[3], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.ray
@pytest.mark.slow
def test_only_the_workers_of_a_step_with_a_gpu_see_one(tmp_path):
    run = run_with_gpus(tmp_path / "corpus", 1)
    assert run["devices"] == {"probe": [""], "tracks": ["0"], "scores": [""], "embeddings": ["0"]}
    store, alone = open_store(tmp_path / "corpus"), open_store(tmp_path / "alone")
    run_toy(alone, 20)
    outcomes = [read_attempts(corpus).select(["item_id", "step", "status", "reason"]) for corpus in (store, alone)]
    left, right = (table.sort_by([("step", "ascending"), ("item_id", "ascending")]) for table in outcomes)
    assert left.num_rows > 60 and left.to_pylist() == right.to_pylist()
