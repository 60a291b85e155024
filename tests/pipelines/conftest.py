"""Toy steps for the engine, the runner and publishing."""

from __future__ import annotations

import importlib.util
import sys
from functools import partial
from pathlib import Path

import pytest

from infra.storage import open_store
from pipelines.intake import record_sources
from pipelines.parts import describe_step
from pipelines.plan import Tally, bind_steps, shards
from pipelines.runner import PartRunner


def load_toy():
    """The module ``toy_mining``, whose functions travel to Ray's workers by value."""
    if "toy_mining" not in sys.modules:
        spec = importlib.util.spec_from_file_location("toy_mining", Path(__file__).with_name("toy_mining.py"))
        module = importlib.util.module_from_spec(spec)
        sys.modules["toy_mining"] = module
        spec.loader.exec_module(module)
    return sys.modules["toy_mining"]


@pytest.fixture(scope="session")
def toy():
    """Mining-shaped steps that decode nothing (``toy_mining.py``)."""
    return load_toy()


def run_toy(toy, store, n, run_id="run", max_attempts=3, seconds=0.0, batch=3):
    """Every toy step on n videos, in this process and without Ray; gives the tallies by step."""
    sources = toy.sources(n)
    bound = bind_steps(toy.toy_steps(seconds, batch), toy.AFTER)
    record_sources(store, sources, "video_id")
    tallies = {b.step.name: Tally() for b in bound}
    for b in bound:
        describe_step(store, b.at, b.step, b.upstream.name if b.upstream else "")
        runner = PartRunner(b, store, run_id, max_attempts)
        for shard, keys in shards(sources["video_id"].to_pylist()):
            tallies[b.step.name].add(runner.run_part(shard, keys, sources))
    return tallies


@pytest.fixture
def mine(toy, monkeypatch):
    """mine(store, n, ...): see ``run_toy``. Nothing is synced: in these tests processes die, not machines."""
    monkeypatch.setattr("os.fsync", lambda descriptor: None)
    return partial(run_toy, toy)


@pytest.fixture(scope="session")
def mined_folder(toy, tmp_path_factory):
    """A corpus of 40 toy videos, mined once; copy it to change it."""
    root = tmp_path_factory.mktemp("mined-toy")
    run_toy(toy, open_store(root), 40, batch=32)
    return root
