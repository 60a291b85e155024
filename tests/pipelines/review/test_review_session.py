"""Cases of a corpus, and decisions as rows: bad ones, gone people, two reviewers."""

from __future__ import annotations

import json

import pytest

from mfhq.decisions import read_decisions
from pipelines.review.session import Review, ReviewError


def saved(store):
    return [tuple(row.values())[1:6] for row in read_decisions(store).to_pylist()]


def test_a_case_shows_the_least_alike_track_first_and_no_embedding(review):
    assert [(c.why, c.identity_id, c.other_id) for c in review.cases[:4]] == [
        ("least cohesive", "ann", ""),
        ("least cohesive", "ben", ""),
        ("least cohesive", "cat", ""),
        ("nearly merged", "cat", "dan"),
    ]
    case = review.case(0)
    tracks = case["people"][0]["tracks"]
    assert [t["track_id"] for t in tracks] == ["ann-4", "ann-0", "ann-1", "ann-2", "ann-3"]
    assert tracks[0]["faces"] == [f"ann-4-{i}" for i in range(4)] and tracks[0]["file"] == "<b>ann-4&.mp4"
    assert "vector" not in json.dumps([case, review.overview()])
    assert review.face_image("ann-4-0")[8:12] == b"WEBP" and review.face_image("eva-0-0") is None
    with pytest.raises(ReviewError, match="no case 99; there are"):
        review.case(99)


def test_decisions_are_rows_at_once(review):
    review.decide({"kind": "split", "identity_id": "ann", "track_ids": ["ann-4"]})
    review.decide({"kind": "accept", "identity_id": "ann", "track_ids": ["ann-0", "ann-1"]})
    review.decide({"kind": "merge", "identity_id": "cat", "other_id": "dan"})
    rows = saved(review.store)
    assert rows[0] == ("split", "ann", "ann-4", "", "one")
    assert sorted(rows[1:]) == [
        ("accept", "ann", "ann-0", "", "one"),
        ("accept", "ann", "ann-1", "", "one"),
        ("merge", "cat", "", "dan", "one"),
    ]
    shown = {t["track_id"]: (t["said"], t["away"]) for t in review.case(0)["people"][0]["tracks"]}
    assert shown["ann-0"] == ("accepted by one", False) and shown["ann-4"][1]
    assert list(shown)[:2] == ["ann-2", "ann-3"], "those that nobody spoke of come first"


def test_whom_every_track_was_decided_on_is_not_shown_again(review):
    review.decide({"kind": "accept", "identity_id": "ben", "track_ids": [f"ben-{i}" for i in range(3)]})
    again = Review(review.store, "two", each=3)
    assert "ben" not in {case.identity_id for case in again.cases if not case.other_id}
    again.close()


@pytest.mark.parametrize(
    ("asked", "status", "says"),
    [
        ({"kind": "praise", "identity_id": "ann", "track_ids": ["ann-0"]}, 400, "give accept or split"),
        ({"kind": "split", "identity_id": "ann"}, 400, "of 0 tracks"),
        ({"kind": "split", "identity_id": "ann", "track_ids": "ann-0"}, 400, "must be a list"),
        ({"kind": "split", "identity_id": "ann", "track_ids": [3]}, 400, "must be a list"),
        ({"kind": "merge", "identity_id": "ann"}, 400, "merge two"),
        ({"kind": "merge", "identity_id": "ann", "other_id": "ann"}, 400, "with itself"),
        ({"kind": "accept", "identity_id": "zoe", "track_ids": ["x"]}, 410, "identity zoe is gone from v0001"),
        ({"kind": "merge", "identity_id": "ann", "other_id": "zoe"}, 410, "zoe is gone"),
        ({"kind": "accept", "identity_id": "ann", "track_ids": ["ben-0"]}, 410, "not identity ann's"),
        ({}, 410, "gone"),
    ],
)
def test_a_decision_that_makes_no_sense_is_refused_and_nothing_saved(review, asked, status, says):
    with pytest.raises(ReviewError, match=says) as caught:
        review.decide(asked)
    assert caught.value.status == status and "\n" not in str(caught.value)
    assert saved(review.store) == []


def test_who_is_gone_in_a_snapshot_published_meanwhile_cannot_be_decided_on(review, people_published):
    people_published(review.store, {"dan-0": "cat", "dan-1": "cat"}, [("dan", "cat")])
    with pytest.raises(ReviewError, match="identity dan is gone from v0002: it is cat since") as caught:
        review.decide({"kind": "accept", "identity_id": "dan", "track_ids": ["dan-0"]})
    assert caught.value.status == 410 and saved(review.store) == []
    assert review.snapshot.version == "v0002"
    review.decide({"kind": "accept", "identity_id": "cat", "track_ids": ["dan-0", "cat-1"]})


def test_two_reviewers_who_contradict_each_other(review):
    other = Review(review.store, "two", each=3)
    review.decide({"kind": "accept", "identity_id": "ann", "track_ids": ["ann-0", "ann-4"]})
    split = {"kind": "split", "identity_id": "ann", "track_ids": ["ann-4"]}
    with pytest.raises(ReviewError, match=r"^one said otherwise \(.* UTC\); the same again overrules it$") as caught:
        other.decide(split)
    assert caught.value.status == 409 and len(saved(review.store)) == 2
    other.decide(split | {"overrule": True})
    assert saved(review.store)[-1][0] == "split"
    with pytest.raises(ReviewError, match="two said otherwise"):
        review.decide({"kind": "accept", "identity_id": "ann", "track_ids": ["ann-4"]})
    review.decide({"kind": "accept", "identity_id": "ann", "track_ids": ["ann-0"]})
    other.close()
