"""Decisions as files of a corpus: whole, in one order, whoever saves."""

from __future__ import annotations

import datetime
from concurrent.futures import ThreadPoolExecutor

import pytest

from infra.storage import open_store
from mfhq.decisions import ACCEPT, MERGE, SPLIT, Decision, decision_rows, read_decisions, record_decisions
from mfhq.schema import DECISIONS

NOON = datetime.datetime(2024, 5, 1, 12, tzinfo=datetime.UTC)


def test_rows_have_ids_from_their_content_and_come_back_in_the_order_of_making(tmp_path):
    store = open_store(tmp_path)
    first = decision_rows([Decision(ACCEPT, "p", "t2"), Decision(ACCEPT, "p", "t1")], "ann", NOON)
    second = decision_rows([Decision(MERGE, "p", other_id="q")], "ben", NOON - datetime.timedelta(hours=1))
    assert record_decisions(store, first) == "decisions/00000001.parquet"
    assert record_decisions(store, second) == "decisions/00000002.parquet"
    read = read_decisions(store)
    assert read.schema.equals(DECISIONS) and sorted(read["track_id"].to_pylist()[1:]) == ["t1", "t2"]
    assert read["kind"].to_pylist() == ["merge", "accept", "accept"]
    assert decision_rows([Decision(ACCEPT, "p", "t1")], "ann", NOON)["decision_id"][0] == first["decision_id"][0]
    assert len(set(read["decision_id"].to_pylist())) == 3


def test_of_many_that_save_at_once_none_is_lost(tmp_path):
    store = open_store(tmp_path)
    rows = [decision_rows([Decision(ACCEPT, "p", f"t{i}")], "ann", NOON) for i in range(12)]
    with ThreadPoolExecutor(6) as pool:
        paths = list(pool.map(lambda r: record_decisions(store, r), rows))
    assert sorted(paths) == [f"decisions/{i:08d}.parquet" for i in range(1, 13)]
    assert sorted(read_decisions(store)["track_id"].to_pylist()) == sorted(f"t{i}" for i in range(12))


@pytest.mark.parametrize(
    "wrong",
    [
        ("praise", "p", "t", ""),
        (ACCEPT, "p", "", ""),
        (SPLIT, "p", "", "q"),
        (MERGE, "p", "t", "q"),
        (MERGE, "p"),
        (MERGE, "p", "", "p"),
        (ACCEPT, "", "t"),
    ],
)
def test_a_decision_that_says_nothing_is_refused(wrong):
    with pytest.raises(ValueError, match=r"must be one of|accept and split name|with itself"):
        Decision(*wrong)
