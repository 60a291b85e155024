"""Outcomes and failed items of toy videos, and the replay of one of them."""

from __future__ import annotations

import pyarrow.compute as pc
import pytest

from infra.storage import open_store
from mfhq.store import StoreError
from pipelines.engine.commits import read_step
from pipelines.engine.replay import replay_item
from pipelines.engine.state import bind_steps, failed_items, read_outcomes, select_finished


@pytest.fixture
def corpus(mined_folder, toy):
    return open_store(mined_folder), {b.step.name: b for b in bind_steps(toy.toy_steps(), toy.AFTER)}


def test_outcomes_are_those_of_the_rows(corpus):
    store, bound = corpus
    for name, b in bound.items():
        rows = read_step(store, name, b.location.fingerprint)
        wanted = sorted(zip(*(rows[c].to_pylist() for c in ("video_id", "status", "reason")), strict=True))
        found = read_outcomes(store, b.location)
        assert sorted(zip(*(found[c].to_pylist() for c in ("item_id", "status", "reason")), strict=True)) == wanted
    tracked = read_outcomes(store, bound["tracks"].location)
    assert select_finished(tracked, 3).num_rows == tracked.num_rows > select_finished(tracked, 4).num_rows
    assert set(select_finished(tracked, 4)["status"].to_pylist()) == {"ok", "rejected"}


def test_failed_items_have_their_file_and_their_error(corpus, toy):
    store, bound = corpus
    sources = toy.sources(40)
    uris = dict(zip(sources["video_id"].to_pylist(), sources["uri"].to_pylist(), strict=True))
    failed = failed_items(store, list(bound.values()), uris).to_pylist()
    assert failed and all("bad" in row["uri"] and "a step that raises" in row["error"] for row in failed)
    assert {(row["step"], row["reason"], row["attempts"]) for row in failed} == {("tracks", "ValueError", 3)}


def one(sources, kind):
    return sources.filter(pc.match_substring(sources["uri"], kind)).slice(0, 1)


def test_a_replay_gives_what_is_on_record_and_writes_nothing(corpus, toy):
    store, bound = corpus
    source = one(toy.sources(40), "good-0")
    item, files = source["video_id"][0].as_py(), set(store.list(""))
    for b in bound.values():
        done = replay_item(store, b, item, source)
        assert not done.differing and not done.error and done.same > 2, b.step.name
    moved = source.set_column(1, source.schema.field("uri"), [["/moved/good-3.mp4"]])
    done = replay_item(store, bound["tracks"], item, moved)
    assert {field.rsplit(".")[-1] for field, _, _ in done.differing} == {"crop"}
    assert set(store.list("")) == files


def test_a_replay_shows_the_error_and_names_what_is_missing(corpus, toy):
    store, bound = corpus
    bad = one(toy.sources(40), "bad")
    done = replay_item(store, bound["tracks"], bad["video_id"][0].as_py(), bad)
    assert "ValueError: a step that raises" in done.error and ("status", "failed", None) in done.differing
    with pytest.raises(StoreError, match=r"step tracks has failed \(ValueError\)"):
        replay_item(store, bound["scores"], bad["video_id"][0].as_py(), bad)
    junk = one(toy.sources(40), "junk")
    with pytest.raises(StoreError, match=r"step probe has rejected \(not_a_video\)"):
        replay_item(store, bound["tracks"], junk["video_id"][0].as_py(), junk)
