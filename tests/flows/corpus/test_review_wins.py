"""Decisions made on the review page hold in the next snapshot, and over every clustering after that."""

from __future__ import annotations

import pyarrow as pa
import pytest

from flows.cluster import decided_clustering
from infra.storage import open_store
from mfhq.catalog import Catalog
from mfhq.decisions import read_decisions
from pipelines.engine.state import fingerprints
from pipelines.identity.cluster_corpus import cluster_corpus
from pipelines.identity.config import ClusterConfig
from pipelines.publishing.publish_snapshot import publish_snapshot
from pipelines.review.session import Review
from tests.support import toy_mining as toy
from tests.support.toy_run import run_toy


@pytest.fixture
def corpus(tmp_path, monkeypatch):
    """grow(rows) mines videos of (number, person); people() clusters, publishes, and says who is who by number."""
    monkeypatch.setattr("os.fsync", lambda descriptor: None)
    store = open_store(tmp_path / "corpus")
    prints = fingerprints(toy.toy_steps(), toy.AFTER)
    rows = []

    def grow(*videos):
        rows.extend(
            {
                "video_id": toy.digest(["v", number], 64),
                "uri": f"/v/{number:02d}-good-{person}.mp4",
                "size": 1,
                "licence": "CC0",
            }
            for number, person in videos
        )
        monkeypatch.setattr(toy, "sources", lambda n: pa.Table.from_pylist(rows, schema=toy.SOURCES))
        run_toy(store, 0, batch=32)

    def people():
        done = decided_clustering(store, cluster_corpus(store, prints, ClusterConfig(threshold=0.5)))
        publish_snapshot(
            store,
            prints,
            done.assignments,
            track_embeddings=done.track_embeddings,
            aliases=done.aliases,
            decisions=read_decisions(store),
        )
        asked = (
            Catalog(store)
            .open()
            .query("SELECT uri, identity_id FROM assignments JOIN tracks USING (track_id) JOIN videos USING (video_id)")
        )
        return {int(row["uri"][3:5]): row["identity_id"] for row in asked.to_pylist()}

    return store, grow, people


def tracks_of(store, who, *numbers):
    asked = Catalog(store).open().query("SELECT track_id, uri FROM tracks JOIN videos USING (video_id)").to_pylist()
    found = {int(row["uri"][3:5]): row["track_id"] for row in asked}
    return [found[number] for number in numbers]


def decide(store, **asked):
    review = Review(store, "one")
    review.decide(asked)
    review.close()


def test_a_split_holds_though_the_clustering_joins_them_again(corpus):
    store, grow, people = corpus
    grow(*((number, 0) for number in range(5)), (9, 1))
    before = people()
    assert len(set(before.values())) == 2 and before[0] == before[4]
    decide(store, kind="split", identity_id=before[0], track_ids=tracks_of(store, before, 2, 3, 4))
    after = people()
    assert after[0] == after[1] == before[0] and after[2] == after[3] == after[4] != before[0] and after[9] == before[9]
    said = Catalog(store).open().table("assignments").to_pylist()
    assert [row["source"] for row in said].count("review") == 3
    assert Catalog(store).open().table("decisions").num_rows == 3
    assert people() == after and Catalog(store).versions() == ["v0001", "v0002"]
    grow((5, 0), (6, 2))
    later = people()
    assert {n: later[n] for n in after} == after, "three of five were split off: the larger part takes over no id"
    assert later[5] in (after[0], after[2]) and later[6] not in after.values()


def test_a_merge_holds_for_the_tracks_that_come_later_too(corpus):
    store, grow, people = corpus
    grow((0, 0), (1, 0), (2, 1), (3, 1), (4, 1))
    before = people()
    assert before[0] != before[2]
    decide(store, kind="merge", identity_id=before[0], other_id=before[2])
    after = people()
    assert set(after.values()) == {before[0]}
    aliases = Catalog(store).open().table("aliases").to_pylist()
    assert [(row["identity_id"], row["now"]) for row in aliases] == [(before[2], before[0])]
    grow((5, 1), (6, 0), (7, 2))
    later = people()
    assert {later[n] for n in range(7)} == {before[0]} and later[7] != before[0]
    assert people() == later


def test_a_later_word_takes_an_earlier_one_back(corpus):
    store, grow, people = corpus
    grow((0, 0), (1, 0), (2, 0))
    before = people()
    decide(store, kind="split", identity_id=before[0], track_ids=tracks_of(store, before, 2))
    split = people()
    assert split[2] != before[2]
    decide(store, kind="merge", identity_id=before[0], other_id=split[2])
    back = people()
    assert back == before
    aliases = Catalog(store).open().table("aliases").to_pylist()
    assert [(row["identity_id"], row["now"]) for row in aliases] == [(split[2], before[0])]
