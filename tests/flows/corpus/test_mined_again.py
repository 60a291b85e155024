"""Mining a source on which nothing is left to do: neither Ray nor Prefect's server starts."""

from __future__ import annotations

import prefect.server.api.server
import pytest
import ray

from flows.mine import is_mined, mine_command
from infra.storage import open_store
from mfhq.catalog import Catalog
from pipelines.mining.config import MiningConfig
from pipelines.mining.digests import sources_to_mine
from pipelines.mining.source_listing import list_sources
from pipelines.mining.steps import mining_steps
from tests.support.toy_run import run_toy


def refuse(*words, **named):
    raise AssertionError("a service was started")


def test_nothing_to_do_starts_neither_ray_nor_prefect(tmp_path, monkeypatch):
    source, corpus = tmp_path / "in", tmp_path / "corpus"
    source.mkdir()
    (source / "text.mp4").write_text("no video")
    store, config = open_store(corpus), MiningConfig()
    assert not is_mined(list_sources(source), store, "", config), "its digest is not known"
    sources, _ = sources_to_mine(list_sources(source), store)
    assert not is_mined(list_sources(source), store, "", config), "no step has run"
    run_toy(store, 1, steps=mining_steps(), sources=sources)
    assert is_mined(list_sources(source), store, "", config)
    monkeypatch.setenv("FFAVATAR_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(ray, "init", refuse)
    monkeypatch.setattr(prefect.server.api.server.SubprocessASGIServer, "start", refuse)
    assert mine_command(str(source), str(corpus), None, "small") == 0
    assert Catalog(store).open().table("videos", ["reason"])["reason"].to_pylist() == ["not_a_video"]
    assert mine_command(str(source), str(corpus), None, "small") == 0 and Catalog(store).versions() == ["v0001"]
    (source / "more.mp4").write_text("no video either")
    with pytest.raises(AssertionError, match="a service was started"):
        mine_command(str(source), str(corpus), None, "small")
