"""What a step made reaches the next in memory, with the same result as through the corpus."""

from __future__ import annotations

from collections import OrderedDict
from typing import ClassVar

import pytest

from infra.storage import FolderStore, open_store
from pipelines.engine.commits import read_step
from pipelines.engine.handover import MAX_BYTES, Handover
from pipelines.engine.sources import record_sources
from pipelines.engine.state import bind_steps, fingerprints, group_by_shard, resume_steps
from pipelines.engine.worker import StepWorker

N = 24


class Watched(FolderStore):
    """A folder that notes what is read of it."""

    seen: ClassVar[list[str]] = []

    def read(self, path, offset=0, length=None):
        self.seen.append(path)
        return super().read(path, offset, length)


def run(store, toy, room=MAX_BYTES, through_bytes=False):
    """Run the toy steps task by task as a worker of the engine does."""
    sources = toy.sources(N)
    record_sources(store, sources, "video_id")
    bound = resume_steps(store, bind_steps(toy.toy_steps(), toy.AFTER), True)
    states = OrderedDict()
    workers = [StepWorker(b, store, "run", states=states) for b in bound]
    wanted = {b.upstream.name for b in bound if b.upstream}
    for shard, keys in group_by_shard(sources["video_id"].to_pylist()):
        handover = Handover(wanted, room)
        for worker in workers:
            worker.process(shard, keys, sources, handover)
            if through_bytes:
                passed = list(handover.to_bytes(wanted).items())
                handover = Handover(wanted, room)
                handover.add_bytes(passed)


def outputs(store, toy):
    prints = fingerprints(toy.toy_steps(), toy.AFTER)
    return {step: read_step(store, step, prints[step], with_blobs=True) for step in prints}


@pytest.fixture
def wanted(tmp_path, toy, mine):
    store = open_store(tmp_path / "plain")
    mine(store, N)
    return outputs(store, toy)


@pytest.mark.parametrize("through_bytes", [False, True])
def test_no_step_reads_what_its_process_has_written(tmp_path, toy, monkeypatch, wanted, through_bytes):
    monkeypatch.setattr("os.fsync", lambda descriptor: None)
    store = Watched(str(tmp_path / "handed"))
    Watched.seen.clear()
    run(store, toy, through_bytes=through_bytes)
    assert not [path for path in Watched.seen if path.endswith((".parquet", ".blobs"))]
    assert outputs(store, toy) == wanted


def test_what_has_no_room_is_read_from_the_corpus(tmp_path, toy, monkeypatch, wanted):
    monkeypatch.setattr("os.fsync", lambda descriptor: None)
    store = Watched(str(tmp_path / "handed"))
    Watched.seen.clear()
    run(store, toy, room=0)
    read = [path for path in Watched.seen if path.endswith((".parquet", ".blobs"))]
    kinds = {(path.split("/")[1], path.rpartition(".")[2]) for path in read if path.startswith("steps/")}
    assert kinds == {("probe", "parquet"), ("tracks", "parquet"), ("tracks", "blobs")}
    assert outputs(store, toy) == wanted


def test_a_rerun_reads_from_the_corpus_what_the_killed_run_committed(tmp_path, toy, monkeypatch, wanted):
    monkeypatch.setattr("os.fsync", lambda descriptor: None)
    store = Watched(str(tmp_path / "handed"))
    sources = toy.sources(N)
    record_sources(store, sources, "video_id")
    for b in resume_steps(store, bind_steps(toy.toy_steps(), toy.AFTER), True)[:2]:
        worker = StepWorker(b, store, "killed")
        for shard, keys in group_by_shard(sources["video_id"].to_pylist()):
            worker.process(shard, keys, sources)
    run(store, toy)
    assert outputs(store, toy) == wanted
