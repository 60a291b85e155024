"""Every named question on a corpus of a few rows, with the answer counted by hand; and their parameters."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

import mfhq
from infra.storage import FolderStore, open_store
from mfhq.catalog import Catalog, CatalogError, Snapshot
from mfhq.fenced_connection import FencedConnection
from mfhq.named_queries import QuestionError, named_queries
from mfhq.schema import TABLES
from mfhq.sql_fence import RefusedSql
from pipelines.publishing.publish_presets import SMALL
from pipelines.publishing.publish_tables import publish_tables
from tests.support.known_corpus import publish_known, rows

A, B = "/src/a", "/src/b"

ANSWERS: dict[str, tuple[dict[str, Any], list[tuple[Any, ...]]]] = {
    "changes": (
        {},
        [
            ("chosen faces", 2, 5, 3, 0, 0),
            ("faces", 3, 7, 4, 0, 1),
            ("identities", 1, 2, 1, 0, 0),
            ("videos", 1, 3, 2, 0, 0),
        ],
    ),
    "cost": (
        {},
        [("tracks", 1, 1, 0, 20.0, 20.0, 1.0), ("probe", 3, 4, 2, 7.5, 1.875, 4.0)],
    ),
    "demographics": ({}, [("handedness", "left", 1, 0, 0, 0)]),
    "duplicates": ({}, [("/src/a/2.mp4", "/src/a/1.mp4", 3.0, 960, 1920, "CC BY", "CC BY")]),
    "expression_coverage": (
        {},
        [(0.0, "best", 1, 1), (0.5, "expression", 1, 1), (None, "best", 1, 1), (None, "pose", 2, 1)],
    ),
    "failures": (
        {},
        [
            ("probe", "va", "/src/a/1.mp4", 1, "ValueError", "ValueError"),
            ("probe", "vc", "/src/b/3.mp4", 1, "ValueError", "ValueError: no index"),
        ],
    ),
    "funnel": ({}, [("videos", "ok", 2, 66.7, 3.0)]),
    "licences": (
        {},
        [("CC BY", "yes", 2, 2, 1.5, 5, 2), ("not stated", "not stated", 1, 0, 0.25, 0, 0)],
    ),
    "lineage": (
        {"run": "train"},
        [
            (0, "run", "train-1", "pretrain", "v0002", "abc", "c0ffee", None, None),
            (1, "run", "publish-1", "publish", "v0001", "abc", None, None, None),
            (None, "file", "va", "/src/a/1.mp4", "v0002", None, None, 3, 1),
            (None, "file", "vb", "/src/a/2.mp4", "v0002", None, None, 1, 1),
        ],
    ),
    "people": (
        {"faces": "2"},
        [("p1", "train", 2, 2, 4, 0.9, 90.0, ["/src/a/1.mp4", "/src/a/2.mp4"])],
    ),
    "people_by_size": ({}, [(1, 1, 1, 1), (2, 4, 1, 2)]),
    "pose_coverage": (
        {"step_deg": 30},
        [(-30, 0, 1, 1), (0, 0, 2, 2), (30, 0, 1, 1), (60, 0, 1, 1)],
    ),
    "regained": ({"max_yaw_deg": 80, "min_sharpness": 20}, [(A, "turned_away", 1)]),
    "rejections": ({}, [(A, "blurred", 1, 14.3), (A, "turned_away", 1, 14.3)]),
    "split_leakage": (
        {},
        [
            ("a copy of a file that shows people of another split", "vb", ["train", "val"]),
            ("a file that shows people of two splits", "vb", ["train", "val"]),
        ],
    ),
    "turned_people": ({"faces": 3}, [("p1", "train", 3, 50.0)]),
    "unused_videos": ({}, [("/src/b/3.mp4", "rejected", "no_face", None, None)]),
}
"""Question to parameters, and the rows of its answer."""


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("known") / "corpus"
    publish_known(root)
    return root


@pytest.fixture(scope="module")
def opened(corpus: Path) -> FencedConnection:
    with mfhq.connect(str(corpus)) as connection:
        yield connection


def test_every_question_has_an_answer_by_hand() -> None:
    assert set(ANSWERS) == set(named_queries())


@pytest.mark.parametrize("name", sorted(ANSWERS))
def test_a_question_is_answered(name: str, opened: FencedConnection, corpus: Path) -> None:
    values, expected = ANSWERS[name]
    answer = opened.ask(name, **values)
    assert [tuple(row.values()) for row in answer.to_pylist()] == [
        tuple(pytest.approx(value, abs=1e-6) if isinstance(value, float) else value for value in row)
        for row in expected
    ]
    assert Catalog(opened._snapshot.store).open().query(f"@{name}", parameters=values).equals(answer)


def test_questions_say_what_they_ask_and_every_parameter_is_used() -> None:
    for question in named_queries().values():
        assert question.question and len(question.question) < 130, question.name
        body = "\n".join(line for line in question.sql.splitlines() if not line.startswith("--"))
        assert all(f"${p.name}" in body and p.meaning for p in question.parameters), question.name


def test_other_thresholds_are_by_default_those_of_the_preset_small() -> None:
    for parameter in named_queries()["regained"].parameters:
        assert parameter.default == getattr(SMALL, parameter.name), parameter.name


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("peeple", {}, "no query 'peeple'; did you mean people"),
        ("people", {"age": 3}, "people has no parameter 'age'; it has videos, faces, most"),
        ("people", {"most": "many"}, "people: most=many: INTEGER is needed"),
        ("turned_people", {"beyond_deg": "nan"}, "beyond_deg=nan: DOUBLE is needed"),
        ("funnel", {"a": 1}, "funnel has no parameter 'a'; it has none"),
    ],
)
def test_a_wrong_question_is_one_line(
    name: str, values: dict[str, Any], message: str, opened: FencedConnection
) -> None:
    with pytest.raises(QuestionError, match=message) as caught:
        opened.ask(name, **values)
    assert "\n" not in str(caught.value)


def test_values_are_bound_and_never_a_part_of_the_sql(opened: FencedConnection) -> None:
    attack = "' OR true --"
    assert opened.ask("rejections", source=attack).num_rows == 0
    assert opened.table("SELECT $a AS a", {"a": attack}).to_pylist() == [{"a": attack}]
    with pytest.raises(RefusedSql):
        opened.table("COPY (SELECT $a AS a) TO '/tmp/never.csv'", {"a": attack})


def test_a_connection_reads_what_it_is_asked_for(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the ledger nor the runs are listed, and no table is checked, before a query names them."""
    listed, checked = [], []
    real_list, real_check = FolderStore.list, Snapshot.check_tables
    monkeypatch.setattr(FolderStore, "list", lambda self, path: listed.append(path) or real_list(self, path))
    monkeypatch.setattr(
        Snapshot, "check_tables", lambda self, names: checked.append(set(names)) or real_check(self, names)
    )
    with mfhq.connect(str(corpus)) as connection:
        connection.table("SELECT count(*) FROM tracks")
        assert {"ledger/", "runs/"}.isdisjoint(listed) and set().union(*checked) == {"tracks"}
        connection.table("SELECT count(*) FROM tracks")
        assert set().union(*checked) == {"tracks"}
        connection.table("SELECT count(*) FROM attempts")
        assert "ledger/" in listed and "runs/" not in listed
        connection.table("SELECT yaw_deg FROM faces")
        assert "meshes" not in set().union(*checked)
        connection.table("SELECT max(mouth_open) FROM chosen")
        assert "meshes" in set().union(*checked)


def test_connect_names_what_is_missing(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match="no snapshot 'v9'; there is v0001 to v0002"):
        mfhq.connect(str(corpus), "v9")
    with pytest.raises(CatalogError, match="no snapshot is published here"):
        mfhq.connect(str(tmp_path))
    with mfhq.connect(str(corpus), since="v2") as same:
        assert sum(row["added"] + row["removed"] for row in same.ask("changes").to_pylist()) == 0


def test_published_tables_answer_before_the_views_in_their_place(corpus: Path, tmp_path: Path) -> None:
    """A snapshot that has ``chosen`` and ``costs`` gives the same answers as one that derives them."""
    root = Path(shutil.copytree(corpus, tmp_path / "corpus"))
    with mfhq.connect(str(root)) as derived:
        tables = {name: derived.table(f"FROM {name}").cast(TABLES[name]) for name in ("chosen", "costs")}
        answers = {name: derived.ask(name) for name in ("expression_coverage", "turned_people", "cost")}
    another = rows("participants", {"identity_id": "p2", "name": "handedness", "value": "left"})
    publish_tables(open_store(root), {**tables, "participants": another})
    shutil.rmtree(root / "ledger")
    with mfhq.connect(str(root)) as stored:
        assert {name: stored.ask(name).to_pylist() for name in answers} == {
            name: answer.to_pylist() for name, answer in answers.items()
        }
