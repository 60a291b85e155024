"""Take-downs of a toy corpus: to the last byte, for later snapshots, older ones, resume, and those cut off half-way."""

from __future__ import annotations

import datetime
import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from infra.storage import FolderStore, open_store
from mfhq.catalog import Catalog, read_blob
from mfhq.corpus_tables import read_attempts
from mfhq.decisions import read_decisions
from mfhq.parquet import from_parquet, to_parquet
from mfhq.paths import CLUSTERINGS
from mfhq.schema import ATTEMPTS
from mfhq.takedowns import read_deny_list, read_takedowns, token
from pipelines.conversion.capture_schemas import CONVERTED
from pipelines.conversion.capture_tables import capture_tables
from pipelines.conversion.publish_captures import publish_captures
from pipelines.engine.commits import describe_step, read_step
from pipelines.engine.state import bind_steps, fingerprints, group_by_shard
from pipelines.engine.step import Step
from pipelines.engine.worker import StepWorker
from pipelines.identity.cluster_corpus import cluster_corpus
from pipelines.identity.clustering_store import newest_clustering
from pipelines.identity.config import ClusterConfig
from pipelines.mining.digests import known_digests, sources_to_mine
from pipelines.mining.source_listing import Source
from pipelines.publishing.publish_snapshot import publish_snapshot
from pipelines.takedown.planner import TakedownError, TakedownPlanner, count_removed_tracks, find_exposed_runs
from pipelines.takedown.sweep import record_takedown, sweep
from tests.support import remnants as scan
from tests.support import takedown_corpus as made
from tests.support.toy_run import run_toy

NOW = datetime.datetime(2024, 6, 1, tzinfo=datetime.UTC)


@pytest.fixture(scope="module")
def built(toy, tmp_path_factory):
    root = tmp_path_factory.mktemp("takedown")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.fsync", lambda descriptor: None)
        made.build(open_store(root), toy, run_toy, patch)
    return root


@pytest.fixture
def store(built, tmp_path, toy, monkeypatch):
    make = toy.sources
    monkeypatch.setattr(toy, "sources", lambda n: made.sources(toy, make))
    monkeypatch.setattr("os.fsync", lambda descriptor: None)
    return open_store(shutil.copytree(built, tmp_path / "corpus"))


def take_down(store, removal):
    record_takedown(store, removal.to_takedown(NOW))
    return sweep(store, removal.names)


def a_video(store, kind="-good-0."):
    rows = Catalog(store).open().table("videos").sort_by("video_id").to_pylist()
    return next(row["video_id"] for row in rows if kind in row["uri"])


def pictures_of(store, snapshot):
    """Every picture that a snapshot's faces refer to, read."""
    faces = snapshot.table("faces").to_pylist()
    return {face["face_id"]: [read_blob(store, face[name]) for name in ("crop", "matte")] for face in faces}


def test_a_video_is_gone_to_the_last_byte(store, toy, mine):
    video = a_video(store)
    names, pieces = made.traces(store, toy, video=video)
    assert len(scan.remnants(store, names, pieces)) > 10
    old = {v: Catalog(store).open(v) for v in ("v1", "v2")}
    before = {v: (s.manifest, pictures_of(store, s), s.table("tracks").num_rows) for v, s in old.items()}
    swept = take_down(store, TakedownPlanner(store).plan_video(video))
    assert swept.is_clean and swept.changes.snapshots == ["v0001", "v0002"]
    assert scan.remnants(store, names, pieces) == []
    for version, (manifest, pictures, n_tracks) in before.items():
        snapshot = Catalog(store).open(version)
        (takedown,) = read_takedowns(store)
        assert snapshot.manifest.digest == manifest.digest != snapshot.manifest.redacted_digest == snapshot.digest
        assert snapshot.manifest.redacted_by == (takedown.takedown_id,)
        assert snapshot.table("tracks").num_rows == n_tracks - 1
        left = pictures_of(store, snapshot)
        assert left == {face: data for face, data in pictures.items() if face not in names} and left != pictures
        assert snapshot.query("SELECT count(*) n FROM videos WHERE video_id = '" + video + "'")["n"].to_pylist() == [0]
    people = {row["identity_id"]: row for row in Catalog(store).open("v1").table("identities").to_pylist()}
    assigned = [row["identity_id"] for row in Catalog(store).open("v1").table("assignments").to_pylist()]
    assert {p: row["n_tracks"] for p, row in people.items()} == {p: assigned.count(p) for p in people}
    assert all(row["cohesion"] > 0.9 for row in people.values())
    again = mine(store, made.N, run_id="again", batch=32)
    done = [row for row in read_attempts(store).to_pylist() if row["run_id"] == "again"]
    assert {row["item_id"] for row in done} == {video}, "the runner did what it was told; all else is finished"
    assert again["tracks"].before == again["tracks"].items - 1
    assert scan.remnants(store, names, pieces), "a run that does not ask the records brings it back into the steps ..."
    assert made.cut(store, toy).created
    newest = Catalog(store).open()
    assert newest.version == "v0003" and newest.manifest.redacted_by == () and newest.manifest.clean_of
    shown = {row["video_id"] for row in newest.table("videos").to_pylist()}
    assert video not in shown and len(shown) == made.N + 1, "... and no publisher shows it"
    rows = newest.table("takedowns").to_pylist()
    assert [(row["kind"], row["target"]) for row in rows] == [("video", token(video))]
    assert made.cut(store, toy).created is False
    assert sweep(store).is_clean and scan.remnants(store, names, pieces) == [], "the next sweep takes it out again"


def test_a_person_is_gone_and_who_is_beside_them_stays(store, toy):
    names, pieces = made.traces(store, toy, person="person-0")
    others, other_pieces = made.traces(store, toy, person="person-1")
    planner = TakedownPlanner(store)
    removal = planner.plan_identity("person-0", "toy", 0.5)
    pair = a_video(store, "-good-0.and-1")
    assert removal.frozen == {pair} and pair not in removal.videos and removal.identities == {"person-0"}
    assert {who for who, _, _ in count_removed_tracks(removal, planner.inventory)} == {"person-0"}
    assert [(run["run_id"], run["through"]) for run in removal.runs] == [("train-1", ""), ("train-2", "train-1")]
    assert removal.runs[0]["pictures"] > 0
    assert take_down(store, removal).is_clean
    assert scan.remnants(store, names, pieces) == []
    assert scan.missing(store, others, other_pieces) == []
    snapshot = Catalog(store).open("v1")
    assert [p["identity_id"] for p in snapshot.table("identities").to_pylist()] == ["person-1", "person-2", "person-3"]
    assert "person-0" not in json.dumps(read_decisions(store).to_pylist(), default=str)
    made.cut(store, toy)
    newest = Catalog(store).open()
    row = next(row for row in newest.table("videos").to_pylist() if row["video_id"] == pair)
    assert row["status"] == "ok" and newest.table("tracks", ["track_id"]).num_rows == snapshot.table("tracks").num_rows


def test_a_stored_clustering_goes_and_the_next_one_has_everybody_else_by_the_same_ids(store, toy):
    """Corpora whose people come from ``cluster_corpus``; also where the clustering comes between record and sweep."""
    prints, config = fingerprints(toy.toy_steps(), toy.AFTER), ClusterConfig(threshold=0.5)
    own = cluster_corpus(store, prints, config)
    publish_snapshot(store, prints, own.assignments, track_embeddings=own.track_embeddings, aliases=own.aliases)
    video = a_video(store)
    tracks = {row["track_id"] for row in Catalog(store).open().table("tracks").to_pylist() if row["video_id"] == video}
    who = dict(zip(*(own.assignments[c].to_pylist() for c in ("track_id", "identity_id")), strict=True))
    (person,) = {who[track] for track in tracks}
    names, pieces = made.traces(store, toy, person=person)
    stored = [path for path in store.list(CLUSTERINGS) if any(piece in store.read(path) for piece in pieces)]
    assert newest_clustering(store).identities == 4 and len(scan.remnants(store, names, pieces)) > 10
    record_takedown(store, TakedownPlanner(store).plan_identity(person, "toy", 0.5).to_takedown(NOW))
    rest = {track: identity for track, identity in who.items() if identity != person}
    for swept in (False, True):
        if swept:
            assert sweep(store).is_clean and scan.remnants(store, names, pieces) == []
        again = cluster_corpus(store, prints, config)
        assert dict(zip(*(again.assignments[c].to_pylist() for c in ("track_id", "identity_id")), strict=True)) == rest
        assert set(again.track_embeddings["track_id"].to_pylist()) == set(rest) and newest_clustering(store)
        assert not [path for path in stored if store.exists(path)]
    assert sweep(store).is_clean


def test_who_is_assigned_to_nobody_goes_where_they_may_be_the_person(store, toy, mine, monkeypatch):
    """A video mined after the last publish, of the same person, and another person's."""
    make = toy.sources
    more = [
        {"video_id": toy.digest(["late", i], 64), "uri": f"/videos/9000{i}-good-{i}.mp4", "size": 1} for i in (0, 3)
    ]
    rows = make(0).to_pylist() + more
    monkeypatch.setattr(toy, "sources", lambda n: made.pa.Table.from_pylist(rows, schema=toy.SOURCES))
    mine(store, 0, run_id="late", batch=32)
    removal = TakedownPlanner(store).plan_identity("person-0", "toy", 0.5)
    assert more[0]["video_id"] in removal.videos and more[1]["video_id"] not in removal.videos
    assert take_down(store, removal).is_clean
    assert scan.remnants(store, [more[0]["video_id"], more[0]["uri"]], []) == []
    assert scan.remnants(store, [more[1]["uri"]], [])
    unpublished = TakedownPlanner(store).plan_video(more[1]["video_id"])
    assert unpublished.snapshots == [] and take_down(store, unpublished).is_clean
    assert scan.remnants(store, [more[1]["video_id"], more[1]["uri"]], []) == []


def test_a_photograph_finds_whoever_looks_like_it(store, toy):
    vector = np.eye(8, dtype=np.float32)[2]
    removal = TakedownPlanner(store).plan_photograph(vector, "toy", 0.5)
    assert removal.identities == {"person-2"} and removal.frozen == {a_video(store, "-good-2.and-1")}
    names, pieces = made.traces(store, toy, person="person-2")
    assert take_down(store, removal).is_clean and scan.remnants(store, names, pieces) == []
    record = store.read(f"takedowns/{read_takedowns(store)[0].takedown_id}.json")
    assert vector.tobytes() not in record and b"vector" not in record
    with pytest.raises(TakedownError, match="looks like the photograph"):
        TakedownPlanner(store).plan_photograph(vector, "toy", 0.5)
    with pytest.raises(TakedownError, match="no embeddings of other"):
        TakedownPlanner(store).plan_photograph(vector, "other", 0.5)


def test_a_source_goes_and_is_not_read_again(store, toy, tmp_path):
    kept, gone = tmp_path / "kept.mp4", tmp_path / "gone.mp4"
    kept.write_bytes(b"kept"), gone.write_bytes(b"gone")
    listed = [Source(str(path), 4, "1") for path in (gone, kept)]
    sources, skipped = sources_to_mine(listed, store)
    assert (sources.num_rows, skipped) == (2, 0)
    removal = TakedownPlanner(store).plan_source(gone.as_uri())
    assert len(removal.videos) == 1 and str(gone) in removal.uris
    assert take_down(store, removal).is_clean
    assert scan.remnants(store, {str(gone)} | removal.videos, []) == []
    copy = tmp_path / "copy.mp4"
    copy.write_bytes(b"gone")
    gone.unlink()
    hard, symbolic = tmp_path / "hard.mp4", tmp_path / "symbolic.mp4"
    hard.hardlink_to(copy), symbolic.symlink_to(copy)
    again = [Source(str(path), 4, "1") for path in (copy, hard, symbolic)]
    sources, skipped = sources_to_mine([*listed, *again], store)
    assert skipped == 2 and sources["uri"].to_pylist() == [str(kept)]
    assert all("gone" not in uri and "copy" not in uri for uri, _, _ in known_digests(store))
    elsewhere = TakedownPlanner(store).plan_source("s3://bucket/never-mined.mp4")
    assert take_down(store, elsewhere).is_clean and not elsewhere.snapshots
    assert sources_to_mine([Source("s3://bucket/never-mined.mp4", 1, "1")], store)[1] == 1


def test_the_captures_of_a_person_go_with_their_cameras_views_and_items_of_work(store, toy):
    """Captures as conversions keep them: rows by item, pictures in packed files."""
    rows = []
    for person in ("head-1", "head-2"):
        for item in range(2):
            view = {
                "view_id": f"view of {person} {item}",
                "camera_id": "a",
                "frame_index": item,
                "split": "train",
                "image": f"image of {person} {item}".encode(),
                "status": "ok",
                "reason": "",
            }
            camera = {
                "camera_id": "a",
                "K": [1.0] * 9,
                "distortion": [],
                "world_to_camera": [0.0] * 12,
                "width": 8,
                "height": 8,
            }
            rows.append(
                {
                    "item_id": f"piece {item} of {person}",
                    "status": "ok",
                    "reason": "",
                    "identity_id": person,
                    "capture_id": f"capture of {person}",
                    "dataset": "studio",
                    "split": "train",
                    "cameras": [camera],
                    "views": [view],
                }
            )

    def convert(_, table):
        return pa.Table.from_pylist([r for r in rows if r["item_id"] in table["item_id"].to_pylist()], schema=CONVERTED)

    given = pa.schema([CONVERTED.field("item_id")])
    step = Step(name="convert_toy", version=1, key="item_id", input=given, output=CONVERTED, load=list, fn=convert)
    (bound,) = bind_steps([step])
    describe_step(store, bound.location, step, "")
    items = pa.table({"item_id": [row["item_id"] for row in rows]}, schema=step.input)
    for shard, keys in group_by_shard(items["item_id"].to_pylist()):
        StepWorker(bound, store, "r").process(shard, keys, items)
    publish_captures(store, capture_tables(read_step(store, "convert_toy", bound.location.fingerprint)), run_id="r")
    names = {f"{what} of head-1" for what in ("capture", "piece 0", "piece 1")} | {"head-1"}
    names |= {f"view of head-1 {i}" for i in range(2)}
    pieces = [f"image of head-1 {i}".encode() for i in range(2)]
    assert scan.missing(store, names, pieces) == []
    assert take_down(store, TakedownPlanner(store).plan_identity("head-1")).is_clean
    assert scan.remnants(store, names, pieces) == []
    assert scan.missing(store, {name.replace("head-1", "head-2") for name in names}, []) == []
    snapshot = Catalog(store).open()
    assert [row["identity_id"] for row in snapshot.table("captures").to_pylist()] == ["head-2"]
    assert [read_blob(store, row["image"]) for row in snapshot.table("views").to_pylist()] == [
        f"image of head-2 {i}".encode() for i in range(2)
    ]
    assert snapshot.table("cameras").num_rows == 1


def test_a_failed_video_goes_with_its_tracebacks_and_what_quotes_it_elsewhere(store, toy):
    video = a_video(store, "-bad")
    path = next(p for p in store.list("ledger") if from_parquet(store.read(p), ATTEMPTS)["error"].null_count == 0)
    rows = from_parquet(store.read(path), ATTEMPTS).to_pylist()
    quoting = f"ValueError: beside '/videos/x {video}': look"
    more = [row | {"item_id": "another", "error": said} for row, said in zip(rows, (quoting, "harmless"), strict=False)]
    store.write("ledger/tracks/f/0000-r-0.parquet", to_parquet(pa.Table.from_pylist(more, schema=ATTEMPTS)))
    names = {video, next(r["uri"] for r in Catalog(store).open().table("videos").to_pylist() if r["video_id"] == video)}
    assert any(row["error"] for row in read_attempts(store).to_pylist() if row["item_id"] == video)
    assert take_down(store, TakedownPlanner(store).plan_video(video)).is_clean
    assert scan.remnants(store, names, []) == []
    left = [row["error"] for row in read_attempts(store).to_pylist() if row["item_id"] == "another"]
    assert left == [None, "harmless"]


def test_what_a_killed_writer_left_is_gone_too(store, toy):
    video = a_video(store)
    names, pieces = made.traces(store, toy, video=video)
    path = next(
        p for p in store.list("steps/tracks") if p.endswith(".blobs") and any(x in store.read(p) for x in pieces)
    )
    folder = path.rpartition("/")[0]
    store.write(f"{folder}/0009-orphan.blobs", pieces[-1])
    rows = next(p for p in store.list(folder) if p.endswith(".parquet"))
    store.write(f"{folder}/0009-orphan.parquet", store.read(rows))
    hidden = Path(store.root, folder, ".part-killed")
    hidden.write_bytes(pieces[-1])
    assert take_down(store, TakedownPlanner(store).plan_video(video)).is_clean
    assert scan.remnants(store, names, pieces) == [] and not hidden.exists()


def test_a_file_that_nobody_knows_how_to_rewrite_is_named(store, toy):
    video = a_video(store)
    store.write("notes/todo.txt", f"look at {video}".encode())
    swept = take_down(store, TakedownPlanner(store).plan_video(video))
    assert not swept.is_clean and "notes/todo.txt" in swept.left[0] and "delete it" in swept.left[0]
    assert read_takedowns(store, unfinished=True)
    store.delete("notes/todo.txt")
    assert sweep(store, [video]).is_clean and not read_takedowns(store, unfinished=True)


@pytest.mark.parametrize("named", ["video", "identity"])
def test_what_is_not_there_is_said(store, named):
    before = sorted(store.list(""))
    with pytest.raises(TakedownError, match=f"{named} 'nobody' is nowhere in file://"):
        getattr(TakedownPlanner(store), f"plan_{named}")("nobody")
    assert sorted(store.list("")) == before


class Killed(Exception):
    """As a kill would end it."""


class Mortal(FolderStore):
    """A store whose process dies at its n-th change."""

    lives = 0

    def _live(self):
        if type(self).lives == 0:
            raise Killed
        type(self).lives -= 1

    def write(self, path, data):
        self._live()
        super().write(path, data)

    def create(self, path, data):
        self._live()
        return super().create(path, data)

    def delete(self, path):
        self._live()
        super().delete(path)


def cut_off(built, toy, tmp_path, lives):
    """Take person-0 down with a store that dies at its change number ``lives``; whether it came that far."""
    store = open_store(built)
    names, pieces = made.traces(store, toy, person="person-0")
    record = TakedownPlanner(store).plan_identity("person-0", "toy", 0.5).to_takedown(NOW)
    copy = open_store(shutil.copytree(built, tmp_path / f"cut off {lives}"))
    Mortal.lives = lives
    try:
        record_takedown(Mortal(copy.root), record)
        sweep(Mortal(copy.root))
        return False
    except Killed:
        pass
    hidden(copy, names, toy)
    assert sweep(copy).is_clean and not read_takedowns(copy, unfinished=True)
    assert scan.remnants(copy, names, pieces) == [] and not sweep(copy).changes
    pictures_of(copy, Catalog(copy).open("v1"))
    shutil.rmtree(copy.root)
    return True


@pytest.mark.parametrize("lives", [12, 60])
def test_cut_off_half_way_it_is_never_shown_and_the_next_call_finishes_it(built, toy, tmp_path, lives, monkeypatch):
    monkeypatch.setattr("os.fsync", lambda descriptor: None)
    assert cut_off(built, toy, tmp_path, lives)


@pytest.mark.soak
def test_cut_off_at_every_change(built, toy, tmp_path, monkeypatch):
    monkeypatch.setattr("os.fsync", lambda descriptor: None)
    lives = 1
    while cut_off(built, toy, tmp_path, lives):
        lives += 1
    assert lives > 60


SHOWN = {
    "videos": ["video_id", "uri"],
    "tracks": ["track_id"],
    "faces": ["face_id"],
    "embeddings": ["track_id", "face_id"],
    "assignments": ["track_id", "identity_id"],
    "identities": ["identity_id"],
    "identity_faces": ["face_id"],
    "decisions": ["track_id", "identity_id"],
    "attempts": ["item_id"],
}


def hidden(store, names, toy):
    """No reader and no publisher shows any of the names."""
    for version in ("v1", "v2"):
        snapshot = Catalog(store).open(version)
        with snapshot.connect(biometric=True) as connection:
            for table, ids in SHOWN.items():
                read = snapshot.table(table, ids).to_pydict()
                asked = connection.table(f"SELECT {', '.join(ids)} FROM {table}").to_pydict()
                assert all(set(read[name]) == set(asked[name]) for name in ids)
                assert not {value for values in read.values() for value in values} & names, (version, table)
    assert not any(name in json.dumps(read_attempts(store).to_pylist()) for name in names)


def test_a_publisher_in_between_shows_nothing_of_it(store, toy):
    names, pieces = made.traces(store, toy, person="person-0")
    record_takedown(store, TakedownPlanner(store).plan_identity("person-0", "toy", 0.5).to_takedown(NOW))
    assert made.cut(store, toy).created
    hidden(store, names, toy)
    newest = Catalog(store).open()
    assert newest.version == "v0003" and newest.manifest.clean_of
    files = {file.path for entry in newest.manifest.tables.values() for file in entry.files}
    assert not files & set(scan.remnants(store, names, pieces))
    assert sweep(store).is_clean and scan.remnants(store, names, pieces) == []


def test_runs_that_went_on_from_one_that_saw_it_saw_it_too():
    def run(name, kind, snapshot, parent=None):
        return {"run_id": name, "kind": kind, "snapshot": snapshot, "parent_run_id": parent}

    runs = [
        run("c", "personalize", "v0009", "b"),
        run("b", "multiview", "v0009", "a"),
        run("a", "pretrain", "v0002"),
        run("d", "pretrain", "v0009"),
        run("e", "publish", "v0002"),
        run("f", "evaluate", "v0002"),
    ]
    seen = {row["run_id"]: row["through"] for row in find_exposed_runs(runs, {"v0002": 3})}
    assert seen == {"a": "", "b": "a", "c": "b", "f": ""}


def test_the_record_holds_digests_alone(store, toy):
    removal = TakedownPlanner(store).plan_identity("person-0", "toy", 0.5)
    record = removal.to_takedown(NOW)
    text = record.to_json().decode()
    assert not any(name in text for name in removal.names)
    assert {token(name) for name in removal.names} == set(record.gone)
    record_takedown(store, record)
    denied = read_deny_list(store)
    assert all(denied.names(name) for name in removal.names) and not denied.names("person-1")
    assert record == read_takedowns(store)[0] and record.takedown_id == removal.to_takedown(NOW).takedown_id
