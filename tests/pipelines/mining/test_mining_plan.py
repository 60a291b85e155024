"""A plan says what is pending, from the digest cache and the markers alone, and what it will cost."""

from __future__ import annotations

import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from infra.storage import open_store
from pipelines.engine.state import bind_steps
from pipelines.mining.digests import CACHE_PREFIX, CACHED
from pipelines.mining.mining_plan import make_mining_plan
from pipelines.mining.source_lists import SourceError
from tests.support import toy_mining
from tests.support.toy_run import run_toy

N = 40


@pytest.fixture
def planned(tmp_path):
    """(store, bound, sources, list file) of a corpus in which 40 toy videos were mined, and a list of ten more."""
    toy, store = toy_mining, open_store(tmp_path / "corpus")
    run_toy(store, N, batch=32)
    sources = toy.sources(N)
    columns = [sources["uri"], sources["size"], pa.array(["s"] * N), sources["video_id"]]
    cached = pa.table(dict(zip(CACHED.names, columns, strict=True)))
    sink = pa.BufferOutputStream()
    pq.write_table(cached, sink)
    store.write(f"{CACHE_PREFIX}/one.parquet", sink.getvalue().to_pybytes())
    uris = [*sources["uri"].to_pylist(), *(f"/videos/new-{i}.mp4" for i in range(10))]
    pq.write_table(pa.table({"uri": uris}), tmp_path / "list.parquet")
    return store, bind_steps(toy.toy_steps(), toy.AFTER), tmp_path / "list.parquet"


def test_only_new_files_are_pending(planned):
    store, bound, listed = planned
    files = set(store.list(""))
    plan = make_mining_plan(str(listed), store, bound)
    assert (plan.files, plan.known, plan.bytes_to_read) == (N + 10, N, None)
    steps = {s.step: s for s in plan.steps}
    assert (steps["probe"].done, steps["probe"].pending) == (N, 10)
    assert steps["tracks"].pending < 10 and steps["scores"].pending <= steps["tracks"].pending, "some are rejected"
    assert all(s.seconds_each is not None and s.measured_on >= s.done and s.requests for s in plan.steps)
    assert plan.seconds == pytest.approx(sum(s.pending * s.seconds_each for s in plan.steps))
    assert set(store.list("")) == files, "a plan writes nothing"


def test_lists_in_text_and_with_relative_paths_are_the_same(planned):
    store, bound, listed = planned
    uris = pq.read_table(listed)["uri"].to_pylist()
    (listed.parent / "list.txt").write_text("# all\n" + "\n".join(uris) + "\n")
    spelled = pa.table({"uri": ["file:///videos/../videos/x.mp4", *uris, "relative.mp4", ""]})
    pq.write_table(spelled, listed.parent / "odd.parquet")
    as_text = make_mining_plan(str(listed.parent / "list.txt"), store, bound)
    odd = make_mining_plan(str(listed.parent / "odd.parquet"), store, bound)
    assert as_text == make_mining_plan(str(listed), store, bound)
    assert (odd.files, odd.known) == (N + 12, N)


def test_a_corpus_without_anything_has_everything_pending(planned, tmp_path):
    _, bound, listed = planned
    plan = make_mining_plan(str(listed), open_store(tmp_path / "empty"), bound)
    assert plan.known == 0 and plan.seconds is None and {s.pending for s in plan.steps} == {N + 10}
    shutil.rmtree(tmp_path / "empty", ignore_errors=True)


def test_failed_items_that_have_attempts_left_are_pending(planned):
    store, bound, listed = planned
    patient = make_mining_plan(str(listed), store, bound, max_attempts=9)
    strict = make_mining_plan(str(listed), store, bound)
    assert patient.steps[1].pending > strict.steps[1].pending


def test_a_list_that_is_none(planned, tmp_path):
    store, bound, _ = planned
    pq.write_table(pa.table({"path": ["x"]}), tmp_path / "wrong.parquet")
    with pytest.raises(SourceError, match="it needs 'uri'"):
        make_mining_plan(str(tmp_path / "wrong.parquet"), store, bound)
