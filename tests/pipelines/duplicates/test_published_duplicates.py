"""Duplicates in a snapshot: what is said of them, whether their faces count, and that no split parts them."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from infra.storage import open_store
from mfhq.catalog import Catalog
from mfhq.ids import digest
from mfhq.pruning import prune
from mfhq.schema import VIDEOS
from pipelines.engine.state import fingerprints
from pipelines.mining.schemas import SOURCES
from pipelines.publishing.audits import AuditError
from pipelines.publishing.publish_presets import preset_named
from pipelines.publishing.publish_snapshot import publish_snapshot
from pipelines.publishing.splits import SplitGroups, split_of_identity
from tests.support.mined_tables import mined_tables

NOT_COUNTED = preset_named("small", name="not counted", count_duplicates=False)
COUNTED = preset_named("small", name="counted", count_duplicates=True, test_share=0.45, val_share=0.1)
CLIPS = ("good-0.take-1-0-50", "good-0.take-1-10-35", "good-0.take-2-0-50", "good-1.take-3-0-50", "good-2")
WHOLE, CUT, OTHER = (digest(["clip", n], 64) for n in range(3))


@pytest.fixture
def corpus(tmp_path, toy, mine):
    """(store, fingerprints) of a clip, the same cut shorter, two other clips, and one without hashes."""
    rows = [
        {"video_id": digest(["clip", n], 64), "uri": f"/videos/{clip}.mp4", "size": n} for n, clip in enumerate(CLIPS)
    ]
    store = open_store(tmp_path / "corpus")
    mine(store, len(rows), sources=pa.Table.from_pylist(rows, schema=SOURCES))
    return store, fingerprints(toy.toy_steps(), toy.AFTER)


def publish(corpus, toy, preset, person_of_cut="person-0"):
    cut = mined_tables(*corpus, preset)
    people = toy.assign(cut)
    track = pc.field("track_id") == next(r["track_id"] for r in cut["tracks"].to_pylist() if r["video_id"] == CUT)
    is_cut = people.filter(track)
    moved = is_cut.set_column(
        1, people.schema.field("identity_id"), pa.array([person_of_cut] * is_cut.num_rows, pa.string())
    )
    publish_snapshot(*corpus, pa.concat_tables([people.filter(~track), moved]), preset)
    return Catalog(corpus[0]).open()


def test_faces_of_a_copy_do_not_count(corpus, toy):
    snapshot = publish(corpus, toy, NOT_COUNTED)
    rows = {row["video_id"]: row for row in snapshot.table("videos").to_pylist()}
    assert (rows[CUT]["status"], rows[CUT]["reason"]) == ("rejected", "duplicate")
    assert (rows[CUT]["duplicate_of"], rows[CUT]["duplicate_distance"]) == (WHOLE, 0.0)
    assert {row["duplicate_of"] for video, row in rows.items() if video != CUT} == {None}
    (copy,) = snapshot.table("duplicates").to_pylist()
    assert copy == {
        **{"video_id": CUT, "shot_index": 0, "rank": 0, "duplicate_of": WHOLE, "original_shot": 0},
        **{"distance": 0.0, "agreement": 1.0, "share": 1.0},
    }
    people = {row["identity_id"]: row for row in snapshot.table("identities").to_pylist()}
    assert (people["person-0"]["n_videos"], people["person-0"]["n_tracks"]) == (2, 2)
    chosen = snapshot.query("SELECT DISTINCT video_id FROM identity_faces JOIN faces USING (face_id)")
    assert CUT not in chosen["video_id"].to_pylist() and chosen.num_rows == 4
    funnel = {(row["stage"], row["reason"]): row["items"] for row in snapshot.table("funnel").to_pylist()}
    assert funnel["videos", "duplicate"] == 1 and funnel["videos", "ok"] == 4


def test_a_copy_that_counts_is_no_further_video(corpus, toy):
    snapshot = publish(corpus, toy, COUNTED)
    rows = {row["video_id"]: row for row in snapshot.table("videos").to_pylist()}
    assert (rows[CUT]["status"], rows[CUT]["reason"], rows[CUT]["duplicate_of"]) == ("ok", "", WHOLE)
    people = {row["identity_id"]: row for row in snapshot.table("identities").to_pylist()}
    assert (people["person-0"]["n_videos"], people["person-0"]["n_tracks"]) == (2, 3)


def test_no_split_parts_copies(corpus, toy, monkeypatch):
    stranger = next(
        name
        for name in (f"stranger-{n}" for n in range(99))
        if split_of_identity(name, COUNTED) != split_of_identity("person-0", COUNTED)
    )
    snapshot = publish(corpus, toy, COUNTED, stranger)
    split = {row["identity_id"]: row["split"] for row in snapshot.table("identities").to_pylist()}
    assert split[stranger] == split["person-0"] == split_of_identity("person-0", COUNTED)
    assert split["person-1"] == split_of_identity("person-1", COUNTED)
    assert snapshot.query("SELECT DISTINCT identity_id FROM identity_faces").num_rows == 4
    before = Catalog(corpus[0]).versions()
    monkeypatch.setattr(SplitGroups, "of", lambda self, identity_id: identity_id)
    with pytest.raises(AuditError, match=f"shot 0 of video '{WHOLE}' and its copy, shot 0 of video '{CUT}', are in"):
        publish(corpus, toy, preset_named("small", name="again", count_duplicates=True, test_share=0.45), stranger)
    assert Catalog(corpus[0]).versions() == before


def test_a_withdrawn_original_is_named_no_more(corpus, toy):
    videos = publish(corpus, toy, NOT_COUNTED).table("videos").select(VIDEOS.names)
    left = prune(videos, lambda values: pc.equal(values, WHOLE).fill_null(False).to_numpy(zero_copy_only=False))
    rows = {row["video_id"]: row["duplicate_of"] for row in left.to_pylist()}
    assert WHOLE not in rows and rows[CUT] is None and len(rows) == 4
