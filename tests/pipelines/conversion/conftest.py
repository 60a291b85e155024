"""A conversion without Ray, and a copy of a source that may be harmed."""

from __future__ import annotations

import shutil

import pytest

from pipelines.conversion.ava256_config import Ava256Config
from pipelines.conversion.ava256_step import plan_ava256
from pipelines.engine.step import run_isolated


@pytest.fixture(scope="session")
def convert_ava256():
    """convert(source, **settings): every item's row, each item alone as the engine would have it."""

    def convert(source, **settings):
        plan = plan_ava256(str(source), Ava256Config(**{"size": 64, **settings}))
        resource = plan.step.load()
        items = [plan.items.slice(i, 1) for i in range(plan.items.num_rows)]
        parts = [part for item in items for part, _ in run_isolated(plan.step, resource, item)]
        return [row for part in parts for row in part.to_pylist()], plan

    return convert


@pytest.fixture
def ava256_copy(ava256_source, tmp_path):
    """A copy of the first capture's folder, and its source folder: (source, decoder)."""
    capture = sorted(ava256_source.glob("*--*"))[0]
    shutil.copytree(capture, tmp_path / "source" / capture.name)
    return tmp_path / "source", tmp_path / "source" / capture.name / "decoder"
