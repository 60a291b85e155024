"""Toy steps for the engine, the runner and publishing."""

from __future__ import annotations

import pytest

from infra.storage import open_store
from tests.support import toy_mining
from tests.support.toy_run import run_toy


@pytest.fixture(scope="session")
def toy():
    """Mining-shaped steps that decode nothing, whose functions travel to Ray's workers by value."""
    return toy_mining


@pytest.fixture
def mine(monkeypatch):
    """mine(store, n, ...): see ``run_toy``. Nothing is synced: in these tests processes die, not machines."""
    monkeypatch.setattr("os.fsync", lambda descriptor: None)
    return run_toy


@pytest.fixture(scope="session")
def mined_folder(tmp_path_factory):
    """A corpus of 40 toy videos, mined once; copy it to change it."""
    root = tmp_path_factory.mktemp("mined-toy")
    run_toy(open_store(root), 40, batch=32)
    return root
