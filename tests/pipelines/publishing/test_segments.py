"""Segments: what is published once is used again, a little more rewrites a little, and the digest is of the content."""

from __future__ import annotations

import datetime
import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from infra.storage import open_store
from mfhq.catalog import Catalog
from mfhq.corpus_tables import read_attempts
from mfhq.schema import ADDED_COLUMNS, TABLES
from mfhq.takedowns import record_path
from pipelines.engine.commits import Marker, read_step
from pipelines.engine.state import fingerprints
from pipelines.publishing import people_choice, segment_tables, segments, table_files
from pipelines.publishing.publish_presets import SMALL, preset_named
from pipelines.publishing.publish_snapshot import publish_snapshot
from pipelines.publishing.segments import plan_segments
from pipelines.publishing.step_outputs import StepOutputs
from pipelines.publishing.table_digest import sum_rows, table_digest
from pipelines.publishing.unnest import STEPS
from pipelines.takedown.planner import TakedownPlanner
from tests.support.mined_tables import mined_tables

FORMER = json.loads((Path(__file__).parents[2] / "golden" / "former_publish.json").read_text())
"""Digests of the tables and the funnel that 2c11962, which had a corpus in memory, published of the toy corpus."""
CHOICE = ("identity_faces", "diversity", "chosen")
STRICT = preset_named("small", name="strict", min_sharpness=230, max_yaw_deg=25, faces_per_identity=4)


@pytest.fixture
def corpus(tmp_path, toy, mined_folder):
    """(store, fingerprints) of 40 mined videos."""
    store = open_store(shutil.copytree(mined_folder, tmp_path / "corpus"))
    return store, fingerprints(toy.toy_steps(), toy.AFTER)


def publish(corpus, toy, preset=SMALL, where=""):
    cut = mined_tables(*corpus, preset)
    return publish_snapshot(*corpus, toy.assign(cut), preset, track_embeddings=toy.means(cut), where=where)


def files_of(store, version, name):
    return {file.path for file in Catalog(store).open(version).manifest.tables[name].files}


@pytest.mark.parametrize("preset", [SMALL, STRICT], ids=lambda preset: preset.name)
def test_rows_are_those_of_the_publication_in_memory(corpus, toy, preset):
    publish(corpus, toy, preset)
    snapshot = Catalog(corpus[0]).open()
    former = FORMER[preset.name]
    tables = {name: snapshot.table(name) for name in former["digests"]}
    found = {name: table_digest(rows.drop_columns(ADDED_COLUMNS.get(name, ()))) for name, rows in tables.items()}
    assert found == former["digests"] and len(found) == 9
    funnel = snapshot.table("funnel").to_pylist()
    assert [[row["stage"], row["reason"], row["items"]] for row in funnel] == former["funnel"]


def test_many_small_segments_and_chunks_give_the_same_snapshot(corpus, toy, tmp_path, monkeypatch):
    whole = publish(corpus, toy)
    for name, value in (("SEGMENT_BYTES", 20_000), ("CHUNK_FACES", 8)):
        monkeypatch.setattr(segments if name == "SEGMENT_BYTES" else segment_tables, name, value)
    for name, value in (("ROW_GROUP", 7), ("MESH_ROW_GROUP", 3), ("FILE_BYTES", 30_000)):
        monkeypatch.setattr(table_files, name, value)
    copy = open_store(shutil.copytree(corpus[0].url(""), tmp_path / "copy"))
    for folder in ("tables", "biometric/tables", "publishing", "snapshots"):
        shutil.rmtree(copy.url(folder))
    small = publish((copy, corpus[1]), toy)
    assert small.digest == whole.digest and len(files_of(copy, "v1", "meshes")) > 4
    assert len(Catalog(copy).open().manifest.about["segments"]) > 2
    faces = Catalog(copy).open().table("faces").sort_by("face_id")
    assert faces.equals(Catalog(corpus[0]).open().table("faces").sort_by("face_id")), "each with its own mesh"
    columns = ["face_id", "mesh468"]
    parts = dict(Catalog(copy).open().parts("faces", columns))
    assert pa.concat_tables(list(parts.values())).sort_by("face_id").equals(faces.select(columns))
    (_, (number, part)) = Catalog(copy).open().parts("faces", columns, [2])
    assert number == 2 and part.equals(parts[2]) and 0 < part.num_rows <= 7
    again = Catalog(copy).open().query("SELECT face_id, mesh468[1404] AS last FROM faces WHERE yaw_deg > 5")
    last = {row["face_id"]: row["mesh468"][-1] for row in faces.to_pylist() if row["yaw_deg"] > 5}
    assert {row["face_id"]: row["last"] for row in again.to_pylist()} == pytest.approx(last)


def test_other_thresholds_write_no_meshes_and_no_vectors(corpus, toy, monkeypatch):
    publish(corpus, toy)
    for name in ("read", "newest_parts"):
        monkeypatch.setattr(StepOutputs, name, lambda *_: pytest.fail("a step's output is read again"))
    publish(corpus, toy, STRICT)
    store = corpus[0]
    for name in ("meshes", "shots"):
        assert files_of(store, "v1", name) == files_of(store, "v2", name)
    assert files_of(store, "v1", "embeddings") & files_of(store, "v2", "embeddings")
    assert files_of(store, "v1", "faces") != files_of(store, "v2", "faces")
    monkeypatch.setattr(segment_tables.SegmentPublisher, "_cut", lambda *_: pytest.fail("nothing is cut again"))
    assert publish(corpus, toy).rows["faces"] == 116, "back to thresholds that were published before"


def test_a_missing_file_is_made_again(corpus, toy):
    first, store = publish(corpus, toy), corpus[0]
    (mesh_file,) = files_of(store, "v1", "meshes")
    store.delete(mesh_file)
    assert publish(corpus, toy).digest == first.digest and store.exists(mesh_file)


def test_more_videos_are_published_in_files_of_their_own(tmp_path, toy, mine):
    store = open_store(tmp_path)
    corpus = (store, fingerprints(toy.toy_steps(), toy.AFTER))
    mine(store, 20)
    publish(corpus, toy)
    mine(store, 40, run_id="more")
    grown = publish(corpus, toy)
    for name in ("meshes", "faces", "tracks", "shots"):
        assert files_of(store, "v1", name) < files_of(store, "v2", name)
    elsewhere = open_store(tmp_path / "elsewhere")
    mine(elsewhere, 40)
    assert publish((elsewhere, corpus[1]), toy).digest == grown.digest


def marker(path, n_bytes):
    shard, part = path.split("/")[-2], int(path.split("/")[-1][:4])
    return Marker(int(shard, 16), part, "", 1, n_bytes, "", "", (), "", 0, "", "")


def test_the_plan_keeps_segments_and_packs_what_is_new(monkeypatch):
    monkeypatch.setattr(segments, "SEGMENT_BYTES", 100)
    monkeypatch.setattr(segments, "MOST_SMALL", 2)
    paths = [f"s/{shard:04x}/{part:04d}.json" for shard in range(4) for part in range(3)]
    markers = {path: marker(path, 25) for path in paths}
    first = plan_segments(markers, [])
    assert [len(segment.parts) for segment in first] == [4, 4, 4] and sum((s.parts for s in first), ()) == tuple(paths)
    assert first[0].ranges() == [["s/0000", 0, 2], ["s/0001", 0, 0]]
    former = json.loads(json.dumps([segment.ranges() for segment in first]))
    for n in range(4):
        markers[f"s/0000/{3 + n:04d}.json"] = marker(f"s/0000/{3 + n:04d}.json", 10)
        now = plan_segments(dict(sorted(markers.items())), former)
        assert now[:3] == first, "large ones stay as they are"
        assert [len(segment.parts) for segment in now[3:]] == {0: [1], 1: [1, 1], 2: [1, 1, 1], 3: [4]}[n]
        former = [segment.ranges() for segment in now]
    del markers[paths[0]]
    assert plan_segments(markers, former)[0].parts == tuple(paths[1:4]), "a part that was deleted"


def test_sums_of_parts_add_up(corpus):
    for step in STEPS[1:3]:
        table = read_step(corpus[0], step, corpus[1][step], columns=["video_id", "status", "reason"])
        halves = sum_rows(table.slice(0, 9)) + sum_rows(table.slice(9))
        assert halves == sum_rows(table.take(pa.array(range(table.num_rows - 1, -1, -1)))) and halves.rows > 9
        assert halves != sum_rows(table.slice(1)) and halves.digest(table.schema) == table_digest(table)
    assert table_digest(TABLES["faces"].empty_table()) != table_digest(TABLES["tracks"].empty_table())


def test_what_was_chosen_is_taken_again_where_the_faces_are_the_same(corpus, toy, monkeypatch):
    publish(corpus, toy)
    face = Catalog(corpus[0]).open().table("identity_faces")["face_id"][0].as_py()
    for path in list(corpus[0].list("publishing/")):
        corpus[0].delete(path)
    fresh = publish(corpus, toy, where=f"face_id <> '{face}'")
    wanted = {name: table_digest(Catalog(corpus[0]).open().table(name)) for name in CHOICE}
    publish(corpus, toy)
    seen, choose = [], people_choice.choose_for_people
    monkeypatch.setattr(people_choice, "choose_for_people", lambda *a: seen.append(a[0].num_rows) or choose(*a))
    assert publish(corpus, toy, where=f"face_id <> '{face}'").digest == fresh.digest
    again = Catalog(corpus[0]).open()
    assert {name: table_digest(again.table(name)) for name in CHOICE} == wanted
    n_ok = again.query("SELECT count(*) AS n FROM faces JOIN assignments USING (track_id) WHERE faces.status = 'ok'")
    assert 0 < sum(seen) < n_ok.to_pylist()[0]["n"], "some people, but not all"
    seen.clear()
    publish(corpus, toy, preset_named("small", name="same", val_share=0.2), where=f"face_id <> '{face}'")
    assert not seen, "no face changed"


def test_the_chosen_faces_stand_in_one_table_by_person(corpus, toy):
    publish(corpus, toy)
    snapshot = Catalog(corpus[0]).open()
    rows = snapshot.table("chosen").to_pylist()
    assert [(r["identity_id"], r["rank"]) for r in rows] == sorted((r["identity_id"], r["rank"]) for r in rows)
    faces = {row["face_id"]: row for row in snapshot.table("faces").to_pylist()}
    picked = {(r["identity_id"], r["face_id"]): r for r in snapshot.table("identity_faces").to_pylist()}
    splits = {row["identity_id"]: row["split"] for row in snapshot.table("identities").to_pylist()}
    assert len(rows) == len(picked) > 10
    for row in rows:
        face, pick = faces[row["face_id"]], picked[row["identity_id"], row["face_id"]]
        assert (row["rank"], row["why"], row["split"]) == (pick["rank"], pick["why"], splits[row["identity_id"]])
        for name in ("track_id", "video_id", "frame_index", "time_s", "yaw_deg", "sharpness", "exposure", "score"):
            assert row[name] == face[name]
        assert row["width_px"] == pytest.approx(face["x1"] - face["x0"])
        for name in ("crop", "matte"):
            assert (face[name] is None) == (row[name] is None)
            assert face[name] is None or {**face[name], "sha256": None} == row[name]
        points = np.array(face["mesh468"]).reshape(-1, 3)
        ratio = np.linalg.norm(points[13] - points[14]) / np.linalg.norm(points[61] - points[291])
        assert row["mouth_open"] == pytest.approx(ratio, abs=1e-3)


def test_a_step_costs_what_its_attempts_cost(corpus, toy):
    publish(corpus, toy)
    rows = Catalog(corpus[0]).open().table("costs").to_pylist()
    attempts = read_attempts(corpus[0]).to_pylist()
    assert sum(row["attempts"] for row in rows) == len(attempts) > 100
    assert sum(row["seconds"] for row in rows) == pytest.approx(sum(row["seconds"] for row in attempts), abs=1e-5)
    for step in STEPS:
        own = [row for row in attempts if row["step"] == step]
        assert sum(row["items"] for row in rows if row["step"] == step) == len({row["item_id"] for row in own})
        last = {row["item_id"]: row["status"] for row in sorted(own, key=lambda row: row["attempt"])}
        for status in ("ok", "rejected", "failed"):
            n = sum(row["items"] for row in rows if (row["step"], row["status"]) == (step, status))
            assert n == sum(value == status for value in last.values())


def test_a_take_down_changes_the_segments_of_its_shards_alone(corpus, toy, monkeypatch):
    monkeypatch.setattr(segments, "SEGMENT_BYTES", 6_000)
    publish(corpus, toy)
    store = corpus[0]
    video = Catalog(store).open().table("faces")["video_id"][0].as_py()
    plan = TakedownPlanner(store).plan_video(video)
    record = plan.to_takedown(datetime.datetime.now(datetime.UTC))
    store.write(record_path(record.takedown_id), record.to_json())
    assert 0 < len(record.shards) < 8
    made, mined = [], segment_tables.SegmentPublisher._publish_mined
    monkeypatch.setattr(
        segment_tables.SegmentPublisher,
        "_publish_mined",
        lambda self, own, key: made.append(set(own.shards())) or mined(self, own, key),
    )
    publish(corpus, toy)
    assert made and all(shards & set(record.shards) for shards in made)
    assert len(made) < len(Catalog(store).open().manifest.about["segments"]) // 2
    assert video not in Catalog(store).open().table("faces")["video_id"].to_pylist()
