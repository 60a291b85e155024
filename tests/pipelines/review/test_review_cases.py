"""Who deserves an eye, and which words go against each other."""

from __future__ import annotations

import datetime

from mfhq.decisions import ACCEPT, MERGE, SPLIT, Decision, decision_rows
from pipelines.identity.lookalikes import Match
from pipelines.review.cases import (
    LARGEST,
    LEAST_COHESIVE,
    NEARLY_MERGED,
    RANDOM,
    Case,
    ReviewedPerson,
    choose_cases,
)
from pipelines.review.evidence import find_contradictions, index_decisions

PEOPLE = [
    ReviewedPerson("a", 9, 0.9),
    ReviewedPerson("b", 2, 0.5),
    ReviewedPerson("c", 3, 0.7),
    ReviewedPerson("d", 1, 1.0),
    ReviewedPerson("e", 4, None),
]


def rows(*said):
    """(reviewer, hour, decision) as rows in the order of saving."""
    made = []
    for reviewer, hour, decision in said:
        made += decision_rows(
            [decision], reviewer, datetime.datetime(2024, 1, 1, hour, tzinfo=datetime.UTC)
        ).to_pylist()
    return made


def test_each_reason_has_its_cases_and_nobody_stands_alone_in_two():
    cases = choose_cases(PEOPLE, [Match("a", "b", 0.6), Match("c", "gone", 0.5)], (), each=2)
    assert cases[:2] == [Case(LEAST_COHESIVE, "b", score=0.5), Case(LEAST_COHESIVE, "c", score=0.7)]
    assert cases[2] == Case(NEARLY_MERGED, "a", "b", 0.6)
    assert [(c.why, c.identity_id) for c in cases[3:]] == [(LARGEST, "a"), (LARGEST, "e")]
    one_each = choose_cases(PEOPLE, [], (), each=1)
    assert [c.why for c in one_each] == [LEAST_COHESIVE, LARGEST, RANDOM]
    assert one_each[2].identity_id in {"c", "e"} and "d" not in {c.identity_id for c in cases}
    assert one_each == choose_cases(PEOPLE[::-1], [], (), each=1)


def test_who_was_decided_on_is_left_out():
    cases = choose_cases(PEOPLE, [Match("a", "b", 0.6), Match("b", "c", 0.5)], {"b", "c"}, each=5)
    assert [(c.identity_id, c.other_id) for c in cases if c.why == NEARLY_MERGED] == [("a", "b")]
    assert {c.identity_id for c in cases if not c.other_id} == {"a", "e"}


def test_the_later_word_on_a_track_holds():
    tracks, merged = index_decisions(
        rows(
            ("x", 1, Decision(ACCEPT, "p", "t")),
            ("y", 2, Decision(SPLIT, "p", "t", "n")),
            ("x", 3, Decision(MERGE, "p", other_id="q")),
        )
    )
    assert tracks["t"].identity_id == "n" and tracks["t"].reviewer == "y" and merged["q"].identity_id == "p"
    _, merged = index_decisions(
        rows(("x", 3, Decision(MERGE, "p", other_id="q")), ("x", 4, Decision(ACCEPT, "q", "u")))
    )
    assert not merged, "who takes a merge back says that the two are two"


def test_contradictions_are_other_reviewers_words_alone():
    said = rows(("x", 1, Decision(ACCEPT, "p", "t")), ("z", 2, Decision(ACCEPT, "q", "u")))
    split = [Decision(SPLIT, "p", "t", "n")]
    assert [w.reviewer for w in find_contradictions(split, said, {}, "y")] == ["x"]
    assert (
        find_contradictions(split, said, {}, "x") == []
        and find_contradictions([Decision(ACCEPT, "p", "t")], said, {}, "y") == []
    )
    merge = [Decision(MERGE, "p", other_id="q")]
    assert [w.reviewer for w in find_contradictions(merge, said, {"q": ["u"]}, "y")] == ["z"]
    after = said + rows(("z", 3, Decision(MERGE, "p", other_id="q")))
    assert [w.identity_id for w in find_contradictions([Decision(ACCEPT, "q", "v")], after, {}, "y")] == ["p"]
