"""Training without Ray: any number of processes, the same numbers; a restart goes on, also on fewer processes."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SETTINGS = {
    "steps": 4,
    "batch": 2,
    "checkpoint_every": 2,
    "log_every": 1,
    "keep": 9,
    "model.image_size": 32,
    "data.drivers": 2,
    "optimizer.warmup": 1,
}


def run(corpus: str, out: Path, processes: int) -> dict[int, dict[str, float]]:
    """Numbers by step, of this start alone."""
    lines = out / "metrics.jsonl"
    lines.unlink(missing_ok=True)
    begin = [sys.executable]
    if processes > 1:
        begin += ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    words = ["-m", "flows.training.torchrun", "multiview", "--corpus", corpus, "-o", str(out)]
    for name, value in SETTINGS.items():
        words += ["--set", f"{name}={value}"]
    done = subprocess.run([*begin, *words], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    return {row["step"]: row for row in map(json.loads, lines.read_text().splitlines())}


@pytest.mark.soak
def test_two_processes_equal_one_which_goes_on_where_they_stopped(studio_corpus: str, tmp_path: Path) -> None:
    alone, together = run(studio_corpus, tmp_path / "one", 1), run(studio_corpus, tmp_path / "two", 2)
    assert set(alone) == set(together) == {0, 1, 2, 3, 4}
    for step in range(1, 5):
        # each rank reports the mean of its half: the gradient is that of the whole, so the norms agree
        assert together[step]["gradient_norm"] == pytest.approx(alone[step]["gradient_norm"], rel=0.02), step
    shutil.rmtree(tmp_path / "two" / "step-00000004")
    resumed = run(studio_corpus, tmp_path / "two", 1)
    assert set(resumed) == {3, 4}, "the two steps since the last checkpoint are taken again"
    for step in (3, 4):
        assert resumed[step]["loss"] == pytest.approx(alone[step]["loss"], rel=0.01), step
