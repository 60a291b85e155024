"""From toy step outputs to snapshots: thresholds, people, funnel, versions, and what the digest does not see."""

from __future__ import annotations

import dataclasses
import shutil
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from infra.storage import open_store
from mfhq.catalog import Catalog
from mfhq.corpus_tables import read_attempts
from mfhq.ids import digest
from mfhq.schema import ALIASES, ASSIGNMENTS, CAMERAS, CAPTURES, DECISIONS, TAKEDOWNS, VIEWS
from mfhq.store import StoreError
from pipelines.engine.state import fingerprints
from pipelines.identity.aliases import extend_aliases
from pipelines.media.containers import FRAME_TOO_LARGE, NOT_A_VIDEO, PLAYLIST
from pipelines.media.probe import EMPTY_FILE, NO_INDEX, NO_VIDEO_STREAM
from pipelines.mining.crops import CUT_BY_BORDER, TOO_SMALL
from pipelines.mining.probe_step import UNREACHABLE
from pipelines.mining.scores_step import MESH_UNSURE
from pipelines.mining.tracks_step import DECODED_IN_PART, NO_FACE, NO_FRAME_DECODED
from pipelines.publishing.audits import AuditError
from pipelines.publishing.publish_presets import SMALL, preset_named
from pipelines.publishing.publish_snapshot import publish_snapshot
from pipelines.publishing.publish_tables import publish_tables
from pipelines.publishing.reasons import REASONS
from tests.support.mined_tables import mined_tables

N = 40


@pytest.fixture
def corpus(tmp_path, toy, mined_folder):
    """(store, fingerprints) of N mined videos."""
    store = open_store(shutil.copytree(mined_folder, tmp_path / "corpus"))
    return store, fingerprints(toy.toy_steps(), toy.AFTER)


def cut_and_publish(corpus, toy, preset=SMALL, **kwargs):
    cut = mined_tables(*corpus, preset)
    return publish_snapshot(*corpus, toy.assign(cut), preset, track_embeddings=toy.means(cut), **kwargs)


def test_each_video_has_a_row_with_its_reason(corpus, toy):
    cut_and_publish(corpus, toy)
    videos = Catalog(corpus[0]).open().table("videos").to_pylist()
    assert len(videos) == N
    for row in videos:
        kind = row["uri"].split("-")[1].split(".")[0]
        assert (row["status"], row["reason"]) == {
            "good": ("ok", ""),
            "junk": ("rejected", "not_a_video"),
            "noface": ("rejected", "no_face"),
            "bad": ("failed", "ValueError"),
        }[kind]
        assert row["licence"] == "CC0" and (row["width"] == 640) == (kind != "junk")


def test_people_their_faces_and_splits(corpus, toy):
    cut_and_publish(corpus, toy)
    snapshot = Catalog(corpus[0]).open()
    people = snapshot.table("identities").to_pylist()
    assert {p["identity_id"] for p in people} == {f"person-{i}" for i in range(4)}
    assert all(p["n_faces"] == SMALL.faces_per_identity and p["cohesion"] > 0.9 for p in people)
    differ = {row["identity_id"]: row for row in snapshot.table("diversity").to_pylist()}
    assert all(differ[p["identity_id"]]["n_chosen"] == p["n_faces"] for p in people)
    assert all(row["nearest"] > row["nearest_at_random"] > 0 for row in differ.values())
    means = snapshot.query("SELECT track_id FROM embeddings WHERE face_id = ''", biometric=True)
    assert sorted(means["track_id"].to_pylist()) == sorted(snapshot.table("assignments")["track_id"].to_pylist())
    chosen = snapshot.table("identity_faces").to_pylist()
    track_of = dict(zip(*(snapshot.table("faces")[c].to_pylist() for c in ("face_id", "track_id")), strict=True))
    person_of = dict(
        zip(*(snapshot.table("assignments")[c].to_pylist() for c in ("track_id", "identity_id")), strict=True)
    )
    assert all(person_of[track_of[row["face_id"]]] == row["identity_id"] for row in chosen)
    assert {row["why"] for row in chosen if row["rank"] == 0} == {"best"}


def test_other_thresholds_cut_again_without_inference(corpus, toy):
    first = cut_and_publish(corpus, toy)
    strict = preset_named("small", name="strict", min_sharpness=250)
    second = cut_and_publish(corpus, toy, strict)
    assert (first.version, second.version) == ("v0001", "v0002")
    faces = Catalog(corpus[0]).open().table("faces").to_pylist()
    assert {row["reason"] for row in faces if row["sharpness"] < 250} == {"blurred"}
    assert {row["status"] for row in faces if row["sharpness"] >= 250} == {"ok"}
    nobody = cut_and_publish(corpus, toy, preset_named("small", name="none", min_sharpness=1e6))
    assert nobody.rows["identities"] == 0
    rows = Catalog(corpus[0]).open().table("tracks").to_pylist()
    assert {(row["status"], row["reason"]) for row in rows} == {("rejected", "blurred")}
    videos = Catalog(corpus[0]).open("v3").table("videos").to_pylist()
    assert "ok" not in {row["status"] for row in videos}
    back = cut_and_publish(corpus, toy)
    assert back.created and back.digest == first.digest  # the newest is what readers open


def test_the_same_content_is_published_once(corpus, toy, tmp_path, mine):
    first = cut_and_publish(corpus, toy, run_id="one")
    second = cut_and_publish(corpus, toy, run_id="two")
    assert first.created and not second.created and (second.version, second.digest) == (first.version, first.digest)
    elsewhere = open_store(tmp_path / "elsewhere")
    mine(elsewhere, N, run_id="other", batch=5)
    assert cut_and_publish((elsewhere, corpus[1]), toy).digest == first.digest


def test_two_publishers_at_once_both_get_a_snapshot(corpus, toy):
    presets = [preset_named("small", name=f"p{i}", min_sharpness=200 + 20 * i) for i in range(3)]
    with ThreadPoolExecutor(3) as pool:
        made = list(pool.map(lambda preset: cut_and_publish(corpus, toy, preset), presets))
    assert sorted(ref.version for ref in made) == ["v0001", "v0002", "v0003"]
    for ref in made:
        assert Catalog(corpus[0]).open(ref.version).digest == ref.digest


def test_the_funnel_adds_up(corpus, toy):
    cut_and_publish(corpus, toy)
    snapshot = Catalog(corpus[0]).open()
    funnel = snapshot.table("funnel").to_pylist()
    for stage in ("videos", "shots", "tracks", "faces", "identities"):
        rows = [row for row in funnel if row["stage"] == stage]
        assert sum(row["items"] for row in rows) == snapshot.table(stage).num_rows
        assert sum(row["share"] for row in rows) == pytest.approx(1)
    spent = pc.sum(snapshot.table("attempts")["seconds"]).as_py()
    assert sum(row["seconds"] for row in funnel) == pytest.approx(spent, abs=0.01)
    assert funnel[0]["stage"] == "videos"


def test_named_queries_answer(corpus, toy):
    cut_and_publish(corpus, toy)
    snapshot = Catalog(corpus[0]).open()
    assert snapshot.query("@people").num_rows == 4
    assert set(snapshot.query("@unused_videos")["reason"].to_pylist()) == {"not_a_video", "no_face", "ValueError"}
    assert sum(snapshot.query("@pose_coverage")["faces"].to_pylist()) == snapshot.table("identity_faces").num_rows
    failed = snapshot.query("@failures").to_pylist()
    assert {row["attempt"] for row in failed} == {3} and all("-bad.mp4" in row["uri"] for row in failed)


def test_every_reason_is_documented(corpus, toy):
    cut_and_publish(corpus, toy, preset_named("small", min_sharpness=230, max_yaw_deg=25))
    snapshot = Catalog(corpus[0]).open()
    codes = {r for name in ("videos", "tracks", "faces") for r in snapshot.table(name)["reason"].to_pylist()}
    known = {reason.code for reason in REASONS}
    assert codes - known == {"", "ValueError"} and {"blurred", "turned_away"} < codes
    assert {
        EMPTY_FILE,
        NOT_A_VIDEO,
        PLAYLIST,
        FRAME_TOO_LARGE,
        NO_INDEX,
        NO_VIDEO_STREAM,
        UNREACHABLE,
        NO_FRAME_DECODED,
    } <= known
    assert {DECODED_IN_PART, NO_FACE, CUT_BY_BORDER, TOO_SMALL, MESH_UNSURE} <= known
    assert len(known) == len(REASONS)


def test_a_video_that_no_step_has_seen_is_not_finished(corpus, toy):
    store, prints = corpus
    from pipelines.engine.sources import record_sources

    extra = pa.Table.from_pylist([{"video_id": "f" * 64, "uri": "/late.mp4", "size": 1}], schema=toy.SOURCES)
    record_sources(store, extra, "video_id")
    rows = mined_tables(store, prints)["videos"].to_pylist()
    assert [(r["status"], r["reason"]) for r in rows if r["uri"] == "/late.mp4"] == [("failed", "not_finished")]


def test_a_corrected_list_reaches_the_next_snapshot(corpus, toy):
    store = corpus[0]
    from pipelines.engine.sources import record_sources

    first = cut_and_publish(corpus, toy)
    row = next(row for row in toy.sources(N).to_pylist() if "good" in row["uri"])
    corrected = row | {"uri": row["uri"].replace("/videos/", "/moved/"), "licence": "CC BY", "consent": "signed"}
    unread = {"video_id": "f" * 64, "uri": corrected["uri"], "size": -1}
    record_sources(store, pa.Table.from_pylist([corrected, unread], schema=toy.SOURCES), "video_id")
    second = cut_and_publish(corpus, toy)
    assert second.created and second.rows["videos"] == N and second.rows["faces"] == first.rows["faces"]
    shown = {r["video_id"]: r for r in Catalog(store).open().table("videos").to_pylist()}[row["video_id"]]
    assert {name: shown[name] for name in ("uri", "licence", "consent")} == {
        name: corrected[name] for name in ("uri", "licence", "consent")
    }
    record_sources(store, toy.sources(N), "video_id")  # mined again without a list
    cut_and_publish(corpus, toy)
    shown = {r["video_id"]: r for r in Catalog(store).open().table("videos").to_pylist()}[row["video_id"]]
    kept = {"uri": row["uri"], "licence": row["licence"] or "CC BY", "consent": row["consent"] or "signed"}
    assert {name: shown[name] for name in kept} == kept


def test_a_corpus_of_junk_is_published_with_its_reasons(tmp_path, toy, mine, monkeypatch):
    store = open_store(tmp_path)
    monkeypatch.setattr(toy, "sources", lambda n, made=toy.sources: made(5).slice(4))
    mine(store, 1)
    ref = cut_and_publish((store, fingerprints(toy.toy_steps(), toy.AFTER)), toy)
    assert (ref.rows["videos"], ref.rows["faces"], ref.rows["identities"]) == (1, 0, 0)
    snapshot = Catalog(store).open()
    assert snapshot.query("SELECT status, reason FROM videos").to_pylist() == [
        {"status": "rejected", "reason": "not_a_video"}
    ]
    assert snapshot.query("@people").num_rows == 0


def test_nothing_mined_under_a_fingerprint_is_said(corpus):
    store, prints = corpus
    with pytest.raises(StoreError, match="step scores has not run with fingerprint nonsense"):
        publish_snapshot(store, {**prints, "scores": "nonsense"}, ASSIGNMENTS.empty_table())


def capture_tables(store, identity="head-1", split="train", camera="a"):
    store.write("captures/c1.blobs", b"image" + b"matte")
    camera_row = {
        "capture_id": "c1",
        "camera_id": "a",
        "K": [1.0] * 9,
        "distortion": [],
        "world_to_camera": [0.0] * 12,
        "width": 8,
        "height": 8,
    }
    capture = {"capture_id": "c1", "identity_id": identity, "dataset": "studio", "n_cameras": 1, "n_frames": 1}
    view = {
        "view_id": digest(["c1", camera, 0]),
        "capture_id": "c1",
        "identity_id": identity,
        "camera_id": camera,
        "frame_index": 0,
        "image": {"uri": "captures/c1.blobs", "offset": 0, "length": 5},
        "matte": {"uri": "captures/c1.blobs", "offset": 5, "length": 5},
        "split": split,
        "status": "ok",
        "reason": "",
    }
    return {
        "cameras": pa.Table.from_pylist([camera_row], schema=CAMERAS),
        "captures": pa.Table.from_pylist([capture], schema=CAPTURES),
        "views": pa.Table.from_pylist([view], schema=VIEWS),
    }


def test_captures_join_what_was_mined_and_are_carried_over(corpus, toy):
    store = corpus[0]
    mined = cut_and_publish(corpus, toy)
    both = publish_tables(store, capture_tables(store))
    assert both.version == "v0002" and both.rows["views"] == 1 and both.rows["faces"] == mined.rows["faces"]
    assert publish_tables(store, capture_tables(store)).created is False
    again = cut_and_publish(corpus, toy, preset_named("small", name="other", min_sharpness=250))
    assert again.rows["views"] == 1


def test_takedowns_decisions_and_aliases_stay_from_snapshot_to_snapshot(corpus, toy):
    def aliases(*pairs):
        rows = [{"identity_id": old, "now": now, "kind": "merge", "cluster_version": "toy"} for old, now in pairs]
        return pa.Table.from_pylist(rows, schema=ALIASES)

    takedown = {"takedown_id": "t", "kind": "identity", "target": "person-9"}
    decision = {"decision_id": "d", "kind": "accept", "identity_id": "person-1", "track_id": "", "other_id": ""}
    first = cut_and_publish(
        corpus,
        toy,
        aliases=aliases(("x", "y")),
        takedowns=pa.Table.from_pylist([takedown], schema=TAKEDOWNS),
        decisions=pa.Table.from_pylist([decision], schema=DECISIONS),
    )
    assert cut_and_publish(corpus, toy).digest == first.digest
    assert cut_and_publish(corpus, toy, aliases=aliases()).digest == first.digest  # no new ones: a clustering again
    last = cut_and_publish(corpus, toy, aliases=aliases(("y", "person-1"), ("person-8", "person-2")))
    assert (last.rows["takedowns"], last.rows["decisions"], last.rows["aliases"]) == (1, 1, 3)
    rows = Catalog(corpus[0]).open().table("aliases").to_pylist()
    now = {row["identity_id"]: row["now"] for row in rows}
    assert now == {"x": "person-1", "y": "person-1", "person-8": "person-2"}
    assert Catalog(corpus[0]).open().table("takedowns")["target"].to_pylist() == ["person-9"]


def test_an_id_in_use_is_no_alias(toy):
    before = [{"identity_id": i, "now": "c", "kind": "merge", "cluster_version": "toy"} for i in ("a", "b")]
    assigned = [{"track_id": "t", "identity_id": "a", "cluster_version": "toy", "source": "clustering"}]
    tables = pa.Table.from_pylist(before, ALIASES), ALIASES.empty_table(), pa.Table.from_pylist(assigned, ASSIGNMENTS)
    assert extend_aliases(*tables)["identity_id"].to_pylist() == ["b"]


def test_without_the_biometric_prefix_readers_and_publishers_go_on(corpus, toy, mine):
    store = corpus[0]
    before = cut_and_publish(corpus, toy)
    for path in list(store.list("biometric")):
        store.delete(path)
    snapshot = Catalog(store).open()
    assert snapshot.query("SELECT count(*) AS n FROM embeddings", biometric=True).to_pylist() == [{"n": 0}]
    assert snapshot.query("SELECT track_id, vector FROM embeddings", biometric=True).num_rows == 0
    assert snapshot.query("@people").num_rows == 4
    with pytest.raises(StoreError, match="step embeddings has not run"):
        publish_snapshot(*corpus, ASSIGNMENTS.empty_table())
    after = publish_tables(store, capture_tables(store))
    assert after.rows["views"] == 1 and after.rows["identities"] == 4 and "embeddings" not in after.rows
    mine(store, N, run_id="again", batch=32)  # from the crops: nothing else is done again
    again = read_attempts(store).filter(pc.equal(read_attempts(store)["run_id"], "again"))
    assert set(again["step"].to_pylist()) == {"embeddings"}
    assert cut_and_publish(corpus, toy).rows["embeddings"] == before.rows["embeddings"]


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda t: {**t, "cameras": pa.concat_tables([t["cameras"]] * 2)}, r"cameras: 1 keys are not unique.*'c1'"),
        (lambda t: {**t, "cameras": t["cameras"].slice(1)}, r"views: capture_id 'c1', camera_id 'a' stands in no row"),
        (lambda t: {**t, "views": t["views"].drop_columns(["status"])}, r"views: columns \['status'\] are missing"),
        (lambda t: {**t, "views": _set(t["views"], "status", "fine")}, r"views: status 'fine'; it must be one of"),
        (lambda t: {**t, "views": _set(t["views"], "split", None)}, r"table views: column split holds 1 nulls"),
        (lambda t: {**t, "views": _twice(t["views"])}, r"identity 'head-1' is in the splits \['test', 'train'\]"),
        (lambda t: {**t, "views": _moved(t["views"])}, r"captures/c1\.blobs has 10 bytes, and an image ends at 105"),
        (lambda t: {"people": t["views"]}, r"no table 'people' in mfhq.schema"),
    ],
)
def test_a_failed_audit_publishes_nothing(tmp_path, break_it, message):
    store = open_store(tmp_path)
    with pytest.raises(AuditError, match=message):
        publish_tables(store, break_it(capture_tables(store)))
    assert Catalog(store).versions() == []


def _set(table, column, value):
    index = table.schema.get_field_index(column)
    return table.set_column(index, table.schema.field(index), pa.array([value], pa.string()))


def _twice(views):
    return pa.concat_tables([views, _set(_set(views, "view_id", "another"), "split", "test")])


def _moved(views):
    rows = views.to_pylist()
    rows[0]["image"]["offset"] = 100
    return pa.Table.from_pylist(rows, schema=VIEWS)


def test_presets_name_what_is_wrong():
    with pytest.raises(ValueError, match="no preset 'large'; there are small, mfhq"):
        preset_named("large")
    with pytest.raises(ValueError, match="no setting 'sharpness' in a preset"):
        preset_named("small", sharpness=1)
    with pytest.raises(ValueError, match=r"Preset.max_occlusion is 2; it must be from 0 to 1"):
        dataclasses.replace(SMALL, max_occlusion=2)


def test_a_condition_cuts_the_corpus_again(corpus, toy):
    store, prints = corpus
    whole = mined_tables(store, prints)
    cut = mined_tables(store, prints, where="yaw_deg < 15 AND uri LIKE '%good-1%'")
    was, now = (table["faces"].to_pylist() for table in (whole, cut))
    uri = dict(zip(*(whole["videos"][c].to_pylist() for c in ("video_id", "uri")), strict=True))
    for before, after in zip(was, now, strict=True):
        meets = before["yaw_deg"] < 15 and "good-1" in uri[before["video_id"]]
        kept = before["status"] != "ok" or meets
        wanted = (before["status"], before["reason"]) if kept else ("rejected", "not_selected")
        assert (after["status"], after["reason"]) == wanted
    assert {row["reason"] for row in cut["videos"].to_pylist()} >= {"", "not_selected"}
    made = publish_snapshot(store, prints, toy.assign(cut), where="yaw_deg < 15 AND uri LIKE '%good-1%'")
    about = Catalog(store).open(made.version).manifest.about
    assert about["where"].startswith("yaw_deg") and made.rows["identities"] == 1
