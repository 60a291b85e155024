"""The engine on a real Ray: outcomes, resume, progress, errors as one line, and ``kill -9`` in the middle."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pyarrow.compute as pc
import pytest

from infra.storage import open_store
from mfhq.corpus_tables import read_attempts
from pipelines.engine import ray_data
from pipelines.engine.commits import locate_step, read_markers
from pipelines.engine.progress import progress_of
from pipelines.engine.ray_data import EngineError, map_on_ray, run_steps, worker_groups
from pipelines.engine.state import OutcomeCounts, bind_steps, fingerprints
from pipelines.engine.step import Resources
from pipelines.publishing.publish_snapshot import publish_snapshot
from tests.support.mined_tables import mined_tables
from tests.support.toy_run import run_toy

N = 20


@pytest.fixture(scope="module")
def on_ray(ray_session, toy):
    import ray

    ray.cloudpickle.register_pickle_by_value(toy)
    return toy


@pytest.fixture(scope="module")
def mined(on_ray, tmp_path_factory):
    """(store, summaries, progress) of an undisturbed run."""
    store, seen = open_store(tmp_path_factory.mktemp("mined")), []
    summaries = run_steps(
        on_ray.toy_steps(), on_ray.sources(N), store, "calm", after=on_ray.AFTER, on_progress=seen.append
    )
    return store, {s.step: s for s in summaries}, seen


def published(store, toy):
    prints = fingerprints(toy.toy_steps(), toy.AFTER)
    cut = mined_tables(store, prints)
    return publish_snapshot(store, prints, toy.assign(cut))


@pytest.mark.ray
def test_every_item_has_its_outcome(mined, toy):
    _, summaries, _ = mined
    kinds = Counter(uri.split("-")[1].split(".")[0] for uri in toy.sources(N)["uri"].to_pylist())
    good = sum(n for kind, n in kinds.items() if kind == "good")
    assert summaries["probe"].items == N and summaries["probe"].rejected == kinds["junk"]
    assert summaries["tracks"].reasons == {"no_face": kinds["noface"], "ValueError": kinds["bad"]}
    assert len(summaries["tracks"].failures) == summaries["tracks"].failed == kinds["bad"]
    assert summaries["scores"].ok == summaries["embeddings"].ok == good  # both read tracks


@pytest.mark.ray
def test_progress_reaches_every_total(mined):
    _, summaries, seen = mined
    last = {p.step: p for p in seen}
    assert {name: (p.done, p.total) for name, p in last.items()} == {
        name: (s.items, s.items) for name, s in summaries.items()
    }
    assert last["tracks"].failed == {"ValueError": summaries["tracks"].failed}


@pytest.mark.ray
def test_the_same_call_again_does_nothing_and_new_items_are_added(mined, on_ray):
    store, summaries, _ = mined
    files, attempts = set(store.list("")), read_attempts(store).num_rows
    again = run_steps(on_ray.toy_steps(), on_ray.sources(N), store, "again", after=on_ray.AFTER)
    assert set(store.list("")) == files and read_attempts(store).num_rows == attempts
    assert [(s.items, s.ok, s.rejected, s.failed) for s in again] == [
        (s.items, s.ok, s.rejected, s.failed) for s in summaries.values()
    ]
    assert all(s.before == s.items for s in again)


@pytest.mark.ray
def test_more_workers_than_there_is_room_for_change_nothing(mined, on_ray, tmp_path):
    _, summaries, _ = mined
    wide = run_steps(
        on_ray.toy_steps(), on_ray.sources(N), open_store(tmp_path), "wide", after=on_ray.AFTER, max_workers=9
    )
    assert [(s.items, s.ok, s.rejected, s.failed) for s in wide] == [
        (s.items, s.ok, s.rejected, s.failed) for s in summaries.values()
    ]


@pytest.mark.parametrize("productive", [0, 6])
def test_lost_nodes_end_a_run_only_if_there_is_no_progress(toy, tmp_path, monkeypatch, productive):
    """Nodes are lost after each task; the first tasks finish an item before."""
    store, sources, calls = open_store(tmp_path), toy.sources(N), []

    def lose_a_node(bound, plan, *rest):
        calls.append(len(plan.tasks))
        if len(calls) <= productive:
            key = plan.tasks[0].keys[0]
            run_toy(store, N, sources=sources.filter(pc.equal(sources["video_id"], key)))
        raise ray_data.NodeLost("1 of 2 nodes of the cluster were lost; run the same command again")
        yield

    monkeypatch.setattr(ray_data, "_run_tasks", lose_a_node)
    with pytest.raises(ray_data.NodeLost, match="1 of 2 nodes"):
        run_steps(toy.toy_steps(), sources, store, "lost", after=toy.AFTER)
    assert len(calls) == productive + 1 + ray_data.MAX_LOST_NODES
    assert calls[0] > calls[-1] or not productive


@pytest.mark.ray
@pytest.mark.slow
def test_kill_9_and_the_same_call_again_give_the_same_snapshot(mined, on_ray, tmp_path):
    corpus = tmp_path / "corpus"
    log = tmp_path / "log"
    command = [sys.executable, "-m", "tests.support.interrupted_run", str(corpus), str(N)]
    driver = subprocess.Popen(
        command,
        start_new_session=True,
        cwd=Path(__file__).parents[3],
        env={**os.environ, "TOY_LOG": str(log)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    store = open_store(corpus)
    while True:  # until some tracks are committed, and not all
        done = [path for path in store.list("steps/tracks") if path.endswith(".json") and "/step.json" not in path]
        assert driver.poll() is None, "the driver ended before it could be killed"
        if len(done) >= 3:
            break
        time.sleep(0.1)
    os.killpg(driver.pid, signal.SIGKILL)
    driver.wait()
    steps = on_ray.toy_steps()
    place = locate_step(store, "tracks", fingerprints(steps, on_ray.AFTER)["tracks"])
    finished = sum(m.rows for m in read_markers(store, place.prefix).values())
    resumed = {s.step: s for s in run_steps(steps, on_ray.sources(N), store, "resumed", after=on_ray.AFTER)}
    assert 0 < finished <= resumed["tracks"].before < resumed["tracks"].items
    tried = Counter(row["item_id"] for row in read_attempts(store, "tracks").to_pylist() if row["run_id"] == "resumed")
    assert len(tried) == resumed["tracks"].items - resumed["tracks"].before
    calm = published(mined[0], on_ray)
    after_kill = published(store, on_ray)
    assert after_kill.digest == calm.digest and after_kill.rows == calm.rows
    assert published(store, on_ray).created is False


@pytest.mark.ray
def test_what_is_no_items_fault_is_one_line(on_ray, tmp_path):
    store = open_store(tmp_path)
    steps = [type(s)(**{**vars(s), "load": _no_weights}) if s.name == "tracks" else s for s in on_ray.toy_steps()[:2]]
    with pytest.raises(EngineError) as caught:
        run_steps(steps, on_ray.sources(4), store, "run")
    assert str(caught.value) == "step tracks can't start: FileNotFoundError: yunet.onnx is not in the cache; run doctor"


def _no_weights():
    raise FileNotFoundError("yunet.onnx is not in the cache;\nrun doctor")


def with_resources(steps, **resources):
    return [
        type(s)(**{**vars(s), "resources": Resources(**resources[s.name]) if s.name in resources else s.resources})
        for s in steps
    ]


def test_steps_without_a_gpu_share_their_workers(toy):
    bound = bind_steps(with_resources(toy.toy_steps(), tracks={"cpus": 1}), toy.AFTER)
    (group,) = worker_groups(bound, {"CPU": 2.0}, 100)
    assert len(group.steps) == 4 and (group.cpus, group.workers) == (1.0, 2)
    assert worker_groups(bound, {"CPU": 64.0}, 100)[0].workers == 64
    assert worker_groups(bound, {"CPU": 64.0}, 3)[0].workers == 3, "no more than there are tasks"
    growing = [worker_groups(bound, {"CPU": 2.0}, n, 16)[0] for n in (100, 5, 1)]
    assert [(g.workers, g.most_workers) for g in growing] == [(2, 16), (2, 5), (1, 1)], "an autoscaler is asked"
    assert group.most_workers == 2


def test_steps_with_a_gpu_have_their_own_workers(toy):
    steps = with_resources(toy.toy_steps(), tracks={"cpus": 1, "gpus": 0.5}, scores={"cpus": 1, "gpus": 1})
    bound = bind_steps(steps, toy.AFTER)
    groups = worker_groups(bound, {"CPU": 2.0, "GPU": 2.0}, 100)
    assert [[b.step.name for b in g.steps] for g in groups] == [["probe"], ["tracks"], ["scores"], ["embeddings"]]
    assert [(g.gpus, g.workers) for g in groups][1:3] == [(0.5, 1), (1.0, 1)], "3 GPUs for two of each are too many"
    both = worker_groups(bound, {"CPU": 64.0, "GPU": 8.0}, 100)
    assert [(g.gpus, g.workers) for g in both][1:3] == [(0.5, 5), (1.0, 5)]
    one = worker_groups(bound, {"CPU": 64.0, "GPU": 1.0}, 100)
    assert [(g.gpus, g.workers) for g in one][1:3] == [(0.333, 1), (0.666, 1)], "both fit at once on one GPU"
    assert sum(g.cpus for g in groups) <= 2, "one worker of each group fits at once"
    with pytest.raises(EngineError, match=r"step tracks needs 0\.5 GPUs, and Ray has 0; set its device to cpu"):
        worker_groups(bound, {"CPU": 2.0}, 100)


def test_totals_fall_while_earlier_steps_reject(toy):
    bound = bind_steps(toy.toy_steps(), toy.AFTER)
    before = {b.step.name: OutcomeCounts() for b in bound}
    now = {"probe": OutcomeCounts(ok=6, rejected=2), "tracks": OutcomeCounts(ok=3, failed=1)}
    totals = {p.step: (p.done, p.total) for p in progress_of(bound, before, now, 10)}
    assert totals == {"probe": (8, 10), "tracks": (4, 8), "scores": (0, 7), "embeddings": (0, 7)}


def test_a_function_is_called_on_each_item_and_its_error_is_one_line(ray_session, tmp_path):
    folder, names = tmp_path, [f"{number}.txt" for number in range(7)]
    for number, name in enumerate(names):
        (folder / name).write_text(str(number))
    assert sorted(map_on_ray(lambda name: int((folder / name).read_text()), names)) == list(range(7))
    with pytest.raises(EngineError, match=r"FileNotFoundError.*; run the same command again$"):
        list(map_on_ray(lambda name: (folder / name).read_text(), [*names, "none.txt"]))
