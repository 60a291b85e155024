"""A reviewer's word wins over the clustering, a later word over an earlier one, and none of them breaks anything."""

from __future__ import annotations

import datetime
from typing import Any

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from mfhq.schema import ALIASES, ASSIGNMENTS, DECISIONS
from pipelines.identity.overrides import (
    ALREADY_SO,
    IDENTITY_MISSING,
    INCOMPLETE,
    KINDS,
    TRACK_MISSING,
    ReviewedClustering,
    apply_decisions,
)

CLUSTERED = {"a1": "A", "a2": "A", "a3": "A", "b1": "B", "b2": "B", "c1": "C"}


def clustering(who: dict[str, str]) -> pa.Table:
    said = {"cluster_version": "v", "similarity": 0.9, "source": "clustering"}
    return pa.Table.from_pylist([{"track_id": t, "identity_id": i, **said} for t, i in who.items()], schema=ASSIGNMENTS)


def aliases(*rows: tuple[str, str]) -> pa.Table:
    made = [{"identity_id": was, "now": now, "kind": "merge", "cluster_version": "u"} for was, now in rows]
    return pa.Table.from_pylist(made, schema=ALIASES)


def decision(at: int, kind: str, identity: str, track: str = "", other: str = "", by: str = "r") -> dict[str, Any]:
    return {
        "decision_id": f"d{at}{kind}{identity}{track}{other}{by}",
        "kind": kind,
        "identity_id": identity,
        "track_id": track,
        "other_id": other,
        "reviewer": by,
        "made_at": datetime.datetime(2026, 1, 1, 0, at, tzinfo=datetime.UTC),
    }


def decide(*rows: dict[str, Any], who: dict[str, str] = CLUSTERED, known: pa.Table | None = None) -> ReviewedClustering:
    table = pa.Table.from_pylist(list(rows), schema=DECISIONS)
    return apply_decisions(clustering(who), aliases() if known is None else known, table)


def who(decided: ReviewedClustering) -> dict[str, str]:
    return dict(zip(*(decided.assignments[c].to_pylist() for c in ("track_id", "identity_id")), strict=True))


def reviewed(decided: ReviewedClustering) -> set[str]:
    return {row["track_id"] for row in decided.assignments.to_pylist() if row["source"] == "review"}


def stand_ins(decided: ReviewedClustering) -> dict[str, str]:
    return dict(zip(*(decided.aliases[c].to_pylist() for c in ("identity_id", "now")), strict=True))


def test_no_decisions_change_nothing():
    decided = decide()
    assert decided.assignments.equals(clustering(CLUSTERED)) and not decided.ignored and not decided.aliases.num_rows


def test_a_merge_moves_everybody_and_leaves_an_alias():
    decided = decide(decision(1, "merge", "A", other="B"), known=aliases(("old", "B")))
    assert who(decided) == CLUSTERED | {"b1": "A", "b2": "A"}
    assert stand_ins(decided) == {"B": "A", "old": "A"} and reviewed(decided) == {"b1", "b2"}
    moved = [row for row in decided.assignments.to_pylist() if row["track_id"] == "b1"]
    assert moved[0]["similarity"] is None and moved[0]["cluster_version"] == "v"
    assert decided.aliases.to_pylist()[0] == {"identity_id": "B", "now": "A", "kind": "merge", "cluster_version": "v"}


def test_tracks_split_off_together_are_one_new_person_with_the_same_id_next_time():
    split = [decision(1, "split", "A", track) for track in ("a2", "a3")]
    decided = decide(*split)
    found = who(decided)
    assert found["a2"] == found["a3"] not in CLUSTERED.values() and found["a1"] == "A"
    again = decide(*split, decision(2, "accept", found["a2"], "c1"), who=CLUSTERED | {"a3": "B", "a4": "A"})
    assert who(again)["a2"] == found["a2"] == who(again)["c1"], "and it is found by that id"
    assert who(again)["a3"] == "B" and list(again.ignored.values()) == [ALREADY_SO]
    alone = decide(decision(1, "split", "A", "a2"), decision(2, "split", "A", "a3"))
    assert len({who(alone)[track] for track in ("a1", "a2", "a3")}) == 3


def test_a_split_can_say_where_the_track_belongs_and_never_leaves_nobody():
    decided = decide(decision(1, "split", "A", "a1", "B"), decision(2, "split", "C", "c1"))
    assert who(decided) == CLUSTERED | {"a1": "B"}
    assert list(decided.ignored.values()) == [ALREADY_SO]


def test_an_accepted_track_stays_whatever_the_clustering_says():
    rows = [decision(1, "accept", "A", track) for track in ("a1", "a2", "a3")]
    decided = decide(*rows, who=CLUSTERED | {"a2": "B", "a3": "C"})
    assert who(decided) == CLUSTERED and reviewed(decided) == {"a1", "a2", "a3"}
    whole = decide(decision(1, "accept", "B"))
    assert who(whole) == CLUSTERED and reviewed(whole) == {"b1", "b2"}


def test_of_two_reviewers_the_later_one_wins_in_any_order_of_rows():
    first = decision(1, "split", "A", "a1", by="one")
    second = decision(2, "accept", "A", "a1", by="two")
    assert who(decide(first, second)) == who(decide(second, first)) == CLUSTERED
    merged, apart = decision(1, "merge", "A", other="B", by="one"), decision(2, "accept", "B", "b1", by="two")
    assert who(decide(apart, merged))["b1"] == "A", "the alias leads B to A, where b1 is: one person, by a row of both"
    back = [decision(2, "split", "A", track, by="two") for track in ("b1", "b2")]
    found = who(decide(merged, *back))
    assert found["b1"] == found["b2"] not in {"A", "C"}


def test_an_id_that_is_gone_is_followed_or_ignored():
    decided = decide(decision(1, "accept", "old", "c1"), known=aliases(("older", "A"), ("old", "older")))
    assert who(decided)["c1"] == "A" and stand_ins(decided)["C"] == "A"
    gone = decide(
        decision(1, "accept", "X", "a1"),
        decision(2, "merge", "A", other="X"),
        decision(3, "split", "A", "t9"),
        decision(4, "merge", "A", other="A"),
        decision(5, "merge", "A"),
        decision(6, "split", "A"),
    )
    assert who(gone) == CLUSTERED
    reasons = [IDENTITY_MISSING, IDENTITY_MISSING, TRACK_MISSING, ALREADY_SO, INCOMPLETE, INCOMPLETE]
    assert list(gone.ignored.values()) == reasons


def test_an_id_in_use_is_no_alias_and_a_circle_of_aliases_ends():
    decided = decide(decision(1, "accept", "A", "a1"), known=aliases(("B", "A"), ("x", "y"), ("y", "x")))
    assert set(stand_ins(decided)) == {"x", "y"}
    assert decide(decision(1, "accept", "x", "a1"), known=aliases(("x", "y"), ("y", "x"))).ignored


IDS = st.sampled_from(["A", "B", "C", "gone"])
ROWS = st.tuples(st.integers(0, 9), st.sampled_from(KINDS), IDS, st.sampled_from(["", *CLUSTERED]), IDS)


@settings(max_examples=60, deadline=None)
@given(st.lists(ROWS, max_size=12), st.randoms())
def test_any_decisions_leave_every_track_with_one_person(rows, random):
    made = [decision(*row) for row in dict.fromkeys(rows)]
    decided = decide(*made)
    assert set(who(decided)) == set(CLUSTERED)
    assert not set(stand_ins(decided)) & set(who(decided).values())
    assert set(CLUSTERED.values()) <= set(who(decided).values()) | set(stand_ins(decided))
    assert set(stand_ins(decided).values()) <= set(who(decided).values())
    random.shuffle(made)
    assert decide(*made) == decided
