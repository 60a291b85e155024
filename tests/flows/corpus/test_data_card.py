"""Data cards: written with a snapshot, true, valid Croissant, and without names, paths or embeddings."""

from __future__ import annotations

import dataclasses
import json

import pytest

from flows.cli import main
from infra.storage import open_store
from mfhq.catalog import Catalog, Snapshot
from pipelines.engine.verification import verify_corpus
from pipelines.sharing.snapshot_cards import CROISSANT, MARKDOWN, read_card
from tests.support.small_corpus import publish_small


@pytest.fixture
def corpus(tmp_path, monkeypatch):
    monkeypatch.setenv("FFAVATAR_HOME", str(tmp_path / "home"))
    publish_small(tmp_path / "corpus")
    return tmp_path / "corpus"


def card(capsys, *words):
    main(["data-card", *(str(word) for word in words)])
    return capsys.readouterr().out


def test_the_card_counts_what_is_there(corpus, capsys):
    lines = card(capsys, "--corpus", corpus).splitlines()
    for line in (
        "| people | 4 |",
        "| faces chosen for training | 14 |",
        "| videos, of them used | 5, 5 |",
        "| train | 2 | 8 |",
        "| CC-BY-NC-ND-4.0 | given | 1 | 2 | no: licence_no_derivatives |",
        "| CC-BY-4.0 | given | 1 | 4 | yes |",
        "| CC-BY-4.0 | refused | 1 | 2 | no: consent_refused |",
        "| not stated | not stated | 1 | 2 | no: licence_not_stated |",
        "- Consent is not stated for 2 of 5 videos.",
    ):
        assert line in lines, line
    assert any(line.startswith("Neither measured nor declared") for line in lines)


def test_the_cards_lie_beside_the_snapshot_and_name_nobody(corpus, tmp_path, capsys):
    snapshot = Catalog(open_store(corpus)).open()
    for form, words in ((MARKDOWN, ()), (CROISSANT, ("--croissant",))):
        entry = snapshot.manifest.about["cards"][form]
        stored = (corpus / entry["path"]).read_text()
        assert stored == card(capsys, "--corpus", corpus, *words) == read_card(snapshot, form)
        for word in ("jane-doe", str(tmp_path), "withdrawn in", "vector", "biometric/"):
            assert word not in stored, word
    out = tmp_path / "cards" / "card.json"
    assert "data card of v0001" in card(capsys, "--corpus", corpus, "--croissant", "-o", out)
    assert out.read_text() == stored


def test_croissant_is_valid_and_its_reader_finds_the_people(corpus):
    mlcroissant = pytest.importorskip("mlcroissant", reason="the extra `dev` has it")
    path = corpus / Catalog(open_store(corpus)).open().manifest.about["cards"][CROISSANT]["path"]
    loaded = mlcroissant.Dataset(str(path))
    assert not loaded.metadata.issues.errors
    people = list(loaded.records("identities-rows"))
    assert [row["identities-rows/identity_id"] for row in people] == [b"p1", b"p2", b"p3", b"p4"]
    assert {record_set.name for record_set in loaded.metadata.record_sets} >= {"faces-rows", "videos-rows"}


def test_a_table_of_several_files_is_a_valid_set(corpus):
    mlcroissant = pytest.importorskip("mlcroissant", reason="the extra `dev` has it")
    snapshot = Catalog(open_store(corpus)).open()
    entry = snapshot.manifest.tables["identities"]
    twice = dataclasses.replace(entry, files=entry.files * 2)
    about = {name: value for name, value in snapshot.manifest.about.items() if name != "cards"}
    manifest = dataclasses.replace(
        snapshot.manifest, tables={**snapshot.manifest.tables, "identities": twice}, about=about
    )
    document = json.loads(read_card(Snapshot(snapshot.store, manifest), CROISSANT))
    assert {item["@type"] for item in document["distribution"]} == {"cr:FileObject", "cr:FileSet"}
    assert not mlcroissant.Dataset(document).metadata.issues.errors


def test_a_snapshot_of_an_earlier_version_gets_its_card_when_asked(corpus):
    snapshot = Catalog(open_store(corpus)).open()
    former = Snapshot(snapshot.store, dataclasses.replace(snapshot.manifest, about={}))
    assert read_card(former) == read_card(snapshot)


def test_a_damaged_card_is_named_by_verify_and_by_the_command(corpus, capsys):
    store = open_store(corpus)
    path = Catalog(store).open().manifest.about["cards"][MARKDOWN]["path"]
    assert verify_corpus(store, deep=True) == []
    (corpus / path).write_text("people: 7")
    assert [damage.path for damage in verify_corpus(store, deep=True)] == [path]
    with pytest.raises(SystemExit) as ended:
        card(capsys, "--corpus", corpus)
    assert ended.value.code and path in capsys.readouterr().err


def test_a_take_down_renews_the_card(corpus, capsys):
    before = Catalog(open_store(corpus)).open().manifest.about["cards"]
    main(["takedown", "--corpus", str(corpus), "--video", "va", "--yes"])
    capsys.readouterr()
    assert "| videos, of them used | 4, 4 |" in card(capsys, "--corpus", corpus, "--snapshot", "v1").splitlines()
    assert not any((corpus / entry["path"]).exists() for entry in before.values())
    assert verify_corpus(open_store(corpus), deep=True) == []
