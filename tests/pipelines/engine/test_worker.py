"""A bad item harms itself alone, what is done is never done again, and a crash at any write costs nothing."""

from __future__ import annotations

from collections import Counter

import pyarrow as pa
import pytest

from infra.storage import FolderStore, open_store
from mfhq.corpus_tables import read_attempts
from mfhq.store import StoreError
from pipelines.engine import worker as worker_module
from pipelines.engine.commits import Marker, commit_part, describe_step, locate_step, read_markers, read_step
from pipelines.engine.state import bind_steps, fingerprints, group_by_shard, make_plan
from pipelines.engine.worker import StepWorker
from pipelines.publishing.publish_snapshot import publish_snapshot
from tests.support.mined_tables import mined_tables

N = 24


def prints(toy):
    return fingerprints(toy.toy_steps(), toy.AFTER)


def published(store, toy):
    cut = mined_tables(store, prints(toy))
    return publish_snapshot(store, prints(toy), toy.assign(cut))


def test_each_item_has_its_outcome_and_bad_ones_are_alone(tmp_path, toy, mine):
    store = open_store(tmp_path)
    counts = mine(store, N)
    uris = [uri.split("-")[1][:4] for uri in toy.sources(N)["uri"].to_pylist()]
    kinds = Counter(uris)
    assert (counts["probe"].ok, counts["probe"].rejected) == (N - kinds["junk"], kinds["junk"])
    assert counts["tracks"].failed == kinds["bad."] == len(counts["tracks"].failures)
    assert counts["tracks"].reasons == {"no_face": kinds["nofa"], "ValueError": kinds["bad."]}
    assert counts["scores"].ok == counts["embeddings"].ok == kinds["good"]
    rows = read_step(store, "tracks", prints(toy)["tracks"]).to_pylist()
    assert [row["video_id"] for row in rows] == sorted(row["video_id"] for row in rows)
    assert {row["status"] for row in rows} == {"ok", "rejected", "failed"}


def test_failed_items_are_tried_three_times_and_then_left_alone(tmp_path, toy, mine):
    store = open_store(tmp_path)
    mine(store, N)
    tried = Counter(row["item_id"] for row in read_attempts(store, "tracks").to_pylist() if row["status"] == "failed")
    assert set(tried.values()) == {3} and tried
    errors = [row["error"] for row in read_attempts(store, "tracks").to_pylist() if row["status"] == "failed"]
    assert all("a step that raises" in error for error in errors)
    again = mine(store, N, run_id="again")
    assert not read_attempts(store).filter(pa.compute.equal(read_attempts(store)["run_id"], "again")).num_rows
    assert again["tracks"].before == again["tracks"].items and again["tracks"].failed == len(tried)
    assert make_plan(bind_steps(toy.toy_steps(), toy.AFTER), toy.sources(N), store, 3).tasks == []
    more = mine(store, N, run_id="more", max_attempts=4)  # what `retry` does: one more attempt for the failed
    assert more["tracks"].before == more["tracks"].items - len(tried)


def test_new_items_add_a_part_and_old_ones_are_not_touched(tmp_path, toy, mine):
    store = open_store(tmp_path)
    mine(store, 10)
    before = {path: store.read(path) for path in store.list("steps")}
    mine(store, N, run_id="second")
    assert all(store.read(path) == data for path, data in before.items())
    assert len(list(store.list("steps"))) > len(before)
    items = [row["item_id"] for row in read_attempts(store, "probe").to_pylist()]
    assert len(items) == len(set(items)) == N


def moved(sources):
    uris = pa.array([uri.replace("/videos/", "/moved/") for uri in sources["uri"].to_pylist()])
    return sources.set_column(sources.schema.get_field_index("uri"), sources.schema.field("uri"), uris)


def test_a_step_reads_a_file_where_this_call_says_it_is(tmp_path, toy):
    store, sources = open_store(tmp_path), toy.sources(10)
    probe, tracks = bind_steps(toy.toy_steps(), toy.AFTER)[:2]
    for shard, keys in group_by_shard(sources["video_id"].to_pylist()):
        StepWorker(probe, store, "before").process(shard, keys, sources)
    describe_step(store, tracks.location, tracks.step, "probe")
    for shard, keys in group_by_shard(sources["video_id"].to_pylist()):
        StepWorker(tracks, store, "after").process(shard, keys, moved(sources).slice(0, 5))
    rows = read_step(store, "tracks", tracks.location.fingerprint, with_blobs=True).to_pylist()
    last = set(sources["video_id"].to_pylist()[5:])
    crops = [(row["video_id"], f["crop"]) for row in rows for t in row["tracks"] or () for f in t["faces"]]
    assert {video_id in last for video_id, _ in crops} == {True, False}
    for video_id, crop in crops:  # what the call does not name is read where it was
        assert (b"/videos/" in crop, b"/moved/" in crop) == (video_id in last, video_id not in last)


def test_images_reach_the_next_step_and_the_reader(tmp_path, toy, mine):
    store = open_store(tmp_path)
    mine(store, 6)
    packed = read_step(store, "tracks", prints(toy)["tracks"]).to_pylist()
    whole = read_step(store, "tracks", prints(toy)["tracks"], with_blobs=True).to_pylist()
    for reference, row in zip(packed, whole, strict=True):
        places, faces = ([f for t in r["tracks"] or () for f in t["faces"]] for r in (reference, row))
        for with_place, face in zip(places, faces, strict=True):
            place = with_place["crop"]
            assert store.read(place["uri"], place["offset"], place["length"]) == face["crop"]
            assert face["crop"].endswith(b".mp4")


def test_biometric_output_lies_under_its_own_prefix(tmp_path, toy, mine):
    store = open_store(tmp_path)
    mine(store, 6)
    assert list(store.list("biometric/steps/embeddings")) and not list(store.list("steps/embeddings"))
    assert read_step(store, "embeddings", prints(toy)["embeddings"]).num_rows


@pytest.mark.parametrize("limit", ["COMMIT_ROWS", "COMMIT_BYTES", "COMMIT_SECONDS"])
def test_parts_are_cut_by_rows_bytes_or_time_and_nothing_changes(tmp_path, toy, mine, monkeypatch, limit):
    whole, cut = open_store(tmp_path / "whole"), open_store(tmp_path / "cut")
    monkeypatch.setattr("pipelines.engine.state.shard_of", lambda key: 0)
    mine(whole, N)
    monkeypatch.setattr(worker_module, limit, 0 if limit == "COMMIT_SECONDS" else 1)
    mine(cut, N, batch=2)
    place = locate_step(cut, "tracks", prints(toy)["tracks"])
    assert len(read_markers(cut, place.prefix)) > len(read_markers(whole, place.prefix)) == 1
    assert published(whole, toy).digest == published(cut, toy).digest


class CrashingStore(FolderStore):
    """A folder that dies at the n-th change, before or after it has happened."""

    left = 0
    after = False

    def write(self, path, data):
        self._change(super().write, path, data)

    def create(self, path, data):
        return self._change(super().create, path, data)

    def _change(self, do, path, data):
        cls = type(self)
        cls.left -= 1
        if cls.left == 0 and not cls.after:
            raise KeyboardInterrupt
        done = do(path, data)
        if cls.left == 0:
            raise KeyboardInterrupt
        return done


@pytest.mark.parametrize("after", [False, True])
def test_a_crash_at_any_write_and_a_rerun_give_the_same_snapshot(tmp_path, toy, mine, monkeypatch, after):
    n = 5  # one of each kind
    monkeypatch.setattr("pipelines.engine.state.shard_of", lambda key: 0)
    monkeypatch.setattr(toy, "sources", lambda n, made=toy.sources: made(9).slice(4))
    calm = open_store(tmp_path / "calm")
    mine(calm, n)
    wanted = published(calm, toy).digest
    monkeypatch.setattr(CrashingStore, "after", after)
    crashes = int(after)  # every second write before it has happened, the others after
    while True:
        root = tmp_path / f"crash-{crashes}"
        monkeypatch.setattr(CrashingStore, "left", crashes + 1)
        try:
            mine(CrashingStore(str(root)), n)
            published(CrashingStore(str(root)), toy)
        except KeyboardInterrupt:
            crashes += 2
        else:
            break
        store = open_store(root)
        done = finished(store, toy)
        mine(store, n, run_id="again")
        assert published(store, toy).digest == wanted
        again = {(r["step"], r["item_id"]) for r in read_attempts(store).to_pylist() if r["run_id"] == "again"}
        assert not again & done, "an item was worked on again after its marker"
    assert crashes > 24


def finished(store, toy):
    bound = bind_steps(toy.toy_steps(), toy.AFTER)
    found = set()
    for b in bound:
        for marker in read_markers(store, b.location.prefix).values():
            rows = read_step(store, b.step.name, b.location.fingerprint) if marker else []
            found |= {(b.step.name, key) for key in rows["video_id"].to_pylist()}
    return found


def test_two_runs_at_once_do_not_write_an_item_twice(tmp_path, toy, mine, monkeypatch):
    store = open_store(tmp_path)
    monkeypatch.setattr("pipelines.engine.state.shard_of", lambda key: 0)
    mine(store, 6)
    sources, bound = toy.sources(9), bind_steps(toy.toy_steps(), toy.AFTER)[0]
    ours, theirs = StepWorker(bound, store, "ours"), StepWorker(bound, store, "theirs")
    keys = sources["video_id"].to_pylist()
    inner = worker_module.commit_part

    def overtaken(*arguments):
        monkeypatch.setattr(worker_module, "commit_part", inner)
        theirs.process(0, keys[:8], sources)  # the other run commits items 6 and 7 under our part's number
        return inner(*arguments)

    monkeypatch.setattr(worker_module, "commit_part", overtaken)
    ours.process(0, keys, sources)
    rows = [m.rows for m in read_markers(store, bound.location.prefix).values()]
    assert rows == [6, 2, 1]
    assert read_step(store, "probe", bound.location.fingerprint).num_rows == 9


def test_data_without_a_marker_is_not_seen(tmp_path, toy, mine):
    store = open_store(tmp_path)
    mine(store, 5)
    rows = read_step(store, "probe", prints(toy)["probe"])
    place = locate_step(store, "probe", prints(toy)["probe"])
    marker = next(path for path in store.list(place.prefix) if path.endswith("/0000.json"))
    lost = Marker.from_json(store.read(marker)).rows
    store.delete(marker)
    assert read_step(store, "probe", place.fingerprint).num_rows == rows.num_rows - lost


def test_a_damaged_or_missing_part_is_named_with_the_way_out(tmp_path, toy, mine):
    store = open_store(tmp_path)
    mine(store, 5)
    place = locate_step(store, "probe", prints(toy)["probe"])
    marker = next(iter(read_markers(store, place.prefix).values()))
    store.write(marker.data, store.read(marker.data)[:-1] + b"x")
    with pytest.raises(StoreError, match=r"damaged.*delete .*0000\.json"):
        read_step(store, "probe", place.fingerprint)
    store.delete(marker.data)
    with pytest.raises(StoreError, match=r"is missing; delete"):
        read_step(store, "probe", place.fingerprint)
    with pytest.raises(StoreError, match="step probe has not run with fingerprint 0000"):
        read_step(store, "probe", "0000")


def test_a_marker_holds_what_proves_the_part(tmp_path, toy, mine):
    store = open_store(tmp_path)
    mine(store, 5)
    place = locate_step(store, "tracks", prints(toy)["tracks"])
    upstream = locate_step(store, "probe", prints(toy)["probe"])
    shas = {m.sha256 for m in read_markers(store, upstream.prefix).values()}
    for marker in read_markers(store, place.prefix).values():
        assert set(marker.inputs) <= shas and marker.inputs
        assert marker.n_bytes == store.size(marker.data) and marker.run_id == "run"
        assert not marker.blobs or marker.blobs_n_bytes == store.size(marker.blobs)


def test_a_step_that_cannot_load_is_one_line(tmp_path, toy, mine):
    store = open_store(tmp_path)
    step = toy.toy_steps()[0]
    broken = type(step)(**{**vars(step), "load": lambda: 1 / 0})
    with pytest.raises(RuntimeError, match=r"^step probe can't start: ZeroDivisionError: division by zero$"):
        StepWorker(bind_steps([broken])[0], store, "run").process(
            0, toy.sources(1)["video_id"].to_pylist(), toy.sources(1)
        )


def test_steps_that_do_not_fit_are_refused(toy):
    steps = toy.toy_steps()
    with pytest.raises(ValueError, match="'probe' stands twice"):
        bind_steps([steps[0], steps[0]])
    with pytest.raises(ValueError, match="'tracks' reads 'scores', which is none of the steps before it"):
        bind_steps(steps, {"tracks": "scores"})
    with pytest.raises(ValueError, match=r"after names \['nothing'\]"):
        bind_steps(steps, {"nothing": "probe"})
    changed = type(steps[1])(**{**vars(steps[1]), "version": 2})
    one, other = fingerprints(steps, toy.AFTER), fingerprints([steps[0], changed, *steps[2:]], toy.AFTER)
    assert [name for name in one if one[name] != other[name]] == ["tracks", "scores", "embeddings"]


def test_a_part_number_is_given_once(tmp_path, toy, mine):
    store = open_store(tmp_path)
    mine(store, 3)
    place = locate_step(store, "probe", prints(toy)["probe"])
    marker = next(iter(read_markers(store, place.prefix).values()))
    rows = place.stored_schema.empty_table()
    from pipelines.engine.commits import BlobFile

    assert commit_part(store, place, marker.shard, marker.part, rows, BlobFile(), [], "late") is None
