"""The parts of ``bench convert``: timing in turns, and images that all convert."""

from __future__ import annotations

import pytest

from flows.bench import bench_convert as bench
from flows.bench.bench_convert import time_in_turns, write_bench_capture
from pipelines.conversion.ava256_config import Ava256Config
from pipelines.conversion.ava256_step import plan_ava256


def test_ways_are_run_in_turns():
    ran = []
    spent = time_in_turns({"a": lambda: ran.append("a"), "b": lambda: ran.append("b")})
    assert ran == ["a", "b"] * (bench.ROUNDS + 1) and set(spent) == {"a", "b"} and min(spent.values()) >= 0


@pytest.mark.slow
def test_its_images_all_convert(tmp_path):
    write_bench_capture(tmp_path, n_frames=5, height=128)
    plan = plan_ava256(str(tmp_path), Ava256Config(size=64))
    (row,) = plan.step.fn(plan.step.load(), plan.items).to_pylist()
    assert [view["status"] for view in row["views"]] == ["ok"] * 5
