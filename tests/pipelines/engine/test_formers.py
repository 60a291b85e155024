"""A step whose version was raised goes on with the output of its former definition."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from infra.storage import open_store
from mfhq.corpus_tables import read_attempts
from pipelines.engine.commits import read_step
from pipelines.engine.nested_tables import conform_table
from pipelines.engine.replay import replay_item
from pipelines.engine.state import (
    bind_steps,
    corpus_fingerprints,
    failed_items,
    fingerprints,
    make_plan,
    read_outcomes,
    select_finished,
)
from pipelines.engine.step import Former
from pipelines.publishing.publish_snapshot import publish_snapshot
from tests.support.mined_tables import mined_tables

OLD, N = 24, 40


def raised(toy, keeps=("ok", "rejected")):
    """The toy steps after ``tracks`` got a new version, a setting and a column, and ``probe`` another name."""
    probe, tracks, scores, embeddings = toy.toy_steps()
    output = tracks.output.append(pa.field("looks", pa.int32()))

    find = tracks.fn

    def fn(resource, table):
        return find(resource, table).append_column("looks", pa.array([3] * table.num_rows, pa.int32()))

    former = Former(version=1, config={}, output=tracks.output, keeps=keeps)
    tracks = replace(tracks, version=2, config={"looks": 3}, output=output, fn=fn, continues=(former,))
    probe = replace(probe, name="inspect", continues=(Former(version=1, name="probe"),))
    return [probe, tracks, scores, embeddings]


def test_only_what_is_new_or_failed_is_processed(tmp_path, toy, mine):
    store = open_store(tmp_path)
    before = mine(store, OLD)
    steps, sources = raised(toy), toy.sources(OLD)
    assert set(fingerprints(steps, toy.AFTER).values()).isdisjoint(fingerprints(toy.toy_steps(), toy.AFTER).values())
    bad = set(before["tracks"].failures)
    plan = make_plan(bind_steps(steps, toy.AFTER), sources, store, 3)
    assert {key for task in plan.tasks for key in task.keys} == bad
    assert plan.finished["embeddings"].before == before["embeddings"].ok
    counts = mine(store, N, run_id="second", steps=steps)
    tried = Counter((a["step"], a["item_id"]) for a in read_attempts(store).to_pylist() if a["run_id"] == "second")
    old = set(sources["video_id"].to_pylist())
    assert {item for step, item in tried if item in old} == bad == {item for _, item in tried if item in old}
    assert all(tried["tracks", item] == 3 for item in bad), "a new version tries a failed item afresh"
    assert counts["inspect"].items == N and counts["inspect"].before == OLD
    assert make_plan(bind_steps(steps, toy.AFTER), toy.sources(N), store, 3).tasks == []


def test_readers_get_both_as_if_one_definition_had_made_them(tmp_path, toy, mine):
    fresh, gone_on = open_store(tmp_path / "fresh"), open_store(tmp_path / "gone on")
    mine(gone_on, OLD)
    steps = raised(toy)
    refs = []
    for store in (fresh, gone_on):
        mine(store, N, run_id="now", steps=steps)
        prints = corpus_fingerprints(store, steps, toy.AFTER) | {"probe": ""}
        prints["probe"] = prints["inspect"]
        rows = read_step(store, "tracks", prints["tracks"], with_blobs=True)
        refs.append(rows.drop_columns("looks"))
        assert set(rows.filter(pc.equal(rows["status"], "failed"))["looks"].to_pylist()) <= {None}
    assert refs[0].equals(refs[1])
    looks = read_step(gone_on, "tracks", prints["tracks"], columns=["looks"])["looks"].to_pylist()
    assert Counter(looks)[None] > 0 and Counter(looks)[3] > 0


def test_publishing_reads_what_only_the_former_steps_made(tmp_path, toy, mine):
    store = open_store(tmp_path)
    mine(store, OLD)
    old = fingerprints(toy.toy_steps(), toy.AFTER)
    cut = mined_tables(store, old)
    first = publish_snapshot(store, old, toy.assign(cut))
    probe, *later = raised(toy)
    steps = [replace(probe, name="probe", version=2, continues=(Former(version=1),)), *later]
    prints = corpus_fingerprints(store, steps, toy.AFTER)
    assert prints != old
    cut = mined_tables(store, prints)
    again = publish_snapshot(store, prints, toy.assign(cut))
    assert again.digest == first.digest


def test_outcomes_and_replay_follow_the_former_output(tmp_path, toy, mine):
    store = open_store(tmp_path)
    mine(store, OLD)
    bound = {b.step.name: b for b in bind_steps(raised(toy), toy.AFTER)}
    outcomes = read_outcomes(store, bound["tracks"].location)
    assert Counter(outcomes["stale"].to_pylist())[True] == Counter(outcomes["status"].to_pylist())["failed"] > 0
    assert set(select_finished(outcomes, 3)["status"].to_pylist()) == {"ok", "rejected"}
    assert failed_items(store, list(bound.values()), {}).num_rows
    source = toy.sources(OLD).filter(pc.match_substring(toy.sources(OLD)["uri"], "good-0")).slice(0, 1)
    done = replay_item(store, bound["tracks"], source["video_id"][0].as_py(), source)
    assert done.differing == [("looks", None, 3)]


def test_a_former_status_that_is_not_kept_is_processed_again(tmp_path, toy, mine):
    store = open_store(tmp_path)
    before = mine(store, OLD)
    steps = raised(toy, keeps=("ok",))
    plan = make_plan(bind_steps(steps, toy.AFTER), toy.sources(OLD), store, 3)
    assert sum(len(task.keys) for task in plan.tasks) == before["tracks"].rejected + before["tracks"].failed
    with pytest.raises(ValueError, match="it must have 'ok'"):
        Former(version=1, keeps=("rejected",))


def test_a_new_column_must_be_nullable(toy):
    tracks = toy.toy_steps()[1]
    output = tracks.output.append(pa.field("looks", pa.int32(), nullable=False))
    with pytest.raises(ValueError, match=r"looks.*may not be null, and version 1 has none"):
        replace(tracks, version=2, output=output, continues=(Former(version=1, output=tracks.output),))


def test_rows_conform_to_a_schema_with_other_fields_at_any_depth():
    old = pa.schema([("a", pa.list_(pa.struct([("x", pa.int32()), ("gone", pa.string())]))), ("b", pa.string())])
    new = pa.schema([("c", pa.float32()), ("a", pa.list_(pa.struct([("new", pa.string()), ("x", pa.int64())])))])
    rows = [{"a": [{"x": 1, "gone": "-"}, None], "b": "-"}, {"a": None, "b": "-"}, {"a": [], "b": "-"}]
    table = conform_table(pa.Table.from_pylist([{"a": [], "b": "-"}, *rows], schema=old).slice(1), new)
    assert table.schema == new
    assert table.to_pylist() == [
        {"c": None, "a": [{"new": None, "x": 1}, None]},
        {"c": None, "a": None},
        {"c": None, "a": []},
    ]
