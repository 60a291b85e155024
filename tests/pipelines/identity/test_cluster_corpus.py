"""A corpus is clustered from its steps' outputs; nothing new reads what is stored, new videos join or found people."""

from __future__ import annotations

import json
import random
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from infra.storage import open_store
from mfhq.paths import CLUSTERINGS
from mfhq.seals import KEY, DamagedFileError
from mfhq.takedowns import DenyList
from pipelines.engine.commits import read_step
from pipelines.engine.state import fingerprints
from pipelines.identity import cluster_corpus as module
from pipelines.identity import linkage
from pipelines.identity.checks import EmbeddingError
from pipelines.identity.cluster_corpus import cluster_corpus, gather_corpus
from pipelines.identity.clustering_store import SCHEMAS, newest_clustering, read_clustering
from pipelines.identity.config import ClusterConfig
from pipelines.identity.constraints import TrackSpans
from pipelines.identity.gather import gather_tracks, join_tracks
from pipelines.identity.linkage import cluster_rows, search_blocks
from pipelines.identity.neighbours import neighbours_step, read_pairs, search_stored_blocks, write_blocks
from pipelines.samples.synthetic_tracks import draw_tracks
from tests.support import bit_flips

CONFIG = ClusterConfig(threshold=0.5)


@pytest.fixture
def prints(toy):
    return fingerprints(toy.toy_steps(), toy.AFTER)


def who(clustering):
    return dict(zip(*(clustering.assignments[c].to_pylist() for c in ("track_id", "identity_id")), strict=True))


def test_a_clustering_is_stored_and_read_again(mine, prints, tmp_path, monkeypatch):
    store = open_store(tmp_path / "corpus")
    mine(store, 30)
    first = cluster_corpus(store, prints, CONFIG)
    assert len(set(who(first).values())) == 4 and first.track_embeddings.num_rows == len(who(first)) > 15
    monkeypatch.setattr(module, "gather_tracks", None)  # and nothing is gathered
    again = cluster_corpus(store, prints, CONFIG)
    assert again.version == first.version and again.assignments.equals(first.assignments)
    assert again.track_embeddings.equals(first.track_embeddings)
    stored = newest_clustering(store)
    assert (stored.number, stored.identities, stored.joined) == (1, 4, 0)


@pytest.mark.parametrize("exact", [20_000, 5])
def test_new_videos_join_people_and_ids_stay(mine, prints, tmp_path, monkeypatch, exact):
    monkeypatch.setattr(module, "EXACT", exact)
    store = open_store(tmp_path / "corpus")
    mine(store, 20)
    before = who(cluster_corpus(store, prints, CONFIG))
    mine(store, 60)
    after = cluster_corpus(store, prints, CONFIG)
    assert {track: who(after)[track] for track in before} == before
    assert set(who(after).values()) == set(before.values()) and len(who(after)) > 2 * len(before)
    stored = newest_clustering(store)
    assert stored.joined == (len(who(after)) - len(before) if exact == 5 else 0)
    sums = stored.table(store, "sums")
    assert sum(sums["n_tracks"].to_pylist()) == len(who(after)) == after.track_embeddings.num_rows
    assert read_clustering(store, after.assignments) == who(after), "each version's own rows are kept beside"
    everything = cluster_corpus(store, prints, CONFIG, full=True)
    assert who(everything) == who(after), "clustering everything anew maps onto the same ids"
    np.testing.assert_allclose(
        np.stack(newest_clustering(store).table(store, "sums")["sum"].to_pylist()),
        np.stack(sums["sum"].to_pylist()),
        atol=1e-4,
    )
    needed = {path for paths in newest_clustering(store).tables.values() for path in paths}
    assert len(list(store.list(CLUSTERINGS))) == len(needed) + 1, "what is not needed any more is deleted"


def test_other_settings_and_a_deleted_clustering_start_anew(mine, prints, tmp_path):
    store = open_store(tmp_path / "corpus")
    mine(store, 20)
    first = cluster_corpus(store, prints, CONFIG)
    strict = cluster_corpus(store, prints, replace(CONFIG, threshold=0.0001))
    assert len(set(who(strict).values())) > 4 and set(who(first).values()) <= set(who(strict).values())
    for path in list(store.list(CLUSTERINGS)):
        store.delete(path)
    assert cluster_corpus(store, prints, CONFIG).assignments.num_rows == first.assignments.num_rows


def test_an_empty_corpus_and_a_single_track(mine, prints, tmp_path):
    store = open_store(tmp_path / "corpus")
    mine(store, 0)
    assert cluster_corpus(store, prints, CONFIG).assignments.num_rows == 0
    one = open_store(tmp_path / "one")
    mine(one, 1)
    alone = cluster_corpus(one, prints, CONFIG)
    assert alone.assignments.to_pylist()[0]["similarity"] == 1.0 and len(who(alone)) == 1


def test_a_clustering_whose_files_are_missing_is_none(mine, prints, tmp_path, caplog):
    store = open_store(tmp_path / "corpus")
    mine(store, 12)
    first = cluster_corpus(store, prints, CONFIG)
    store.delete(newest_clustering(store).tables["sums"][0])  # as another run's end may leave it
    again = cluster_corpus(store, prints, CONFIG)
    assert again.assignments.num_rows == first.assignments.num_rows and "some of its files are missing" in caplog.text
    assert newest_clustering(store).number == 2


def test_a_flipped_bit_of_a_clustering_is_named_and_former_records_are_read(mine, prints, tmp_path):
    store = open_store(tmp_path / "corpus")
    mine(store, 12)
    assigned = cluster_corpus(store, prints, CONFIG).assignments
    whole = {name: newest_clustering(store).table(store, name) for name in SCHEMAS}

    def read_all():
        read_clustering(store, assigned)
        return {name: newest_clustering(store).table(store, name) for name in SCHEMAS}

    record = next(path for path in store.list(CLUSTERINGS) if path.endswith(".json"))
    draw = random.Random(5)
    files = [*store.list(CLUSTERINGS), *store.list("clusterings/")]
    assert len(files) == len(SCHEMAS) + 1, "a record, assignments, and a file of each table but aliases, which is empty"
    for path in files * 4:
        bit = draw.randrange(8 * store.size(path))
        bit_flips.flip(tmp_path / "corpus" / path, bit)
        try:
            same = read_all() == whole
        except DamagedFileError as error:
            same = path in str(error) and "delete" in str(error)
        assert same, f"bit {bit} of {path}"
        bit_flips.flip(tmp_path / "corpus" / path, bit)
    row = json.loads(store.read(record))
    bad = {**row, "joined": row["joined"] + 1}
    store.write(record, json.dumps(bad).encode())
    with pytest.raises(DamagedFileError, match=r"0001\.json: is damaged.*delete the folder"):
        cluster_corpus(store, prints, CONFIG)
    store.write(record, json.dumps({name: value for name, value in row.items() if name != KEY}).encode())
    assert read_all() == whole, "one of a former version, which has no seal"


@pytest.mark.parametrize("kind", [{"model": "other"}, {"width": 4}])
def test_new_tracks_of_another_kind_join_nobody_and_nothing_is_stored(mine, prints, tmp_path, monkeypatch, kind):
    monkeypatch.setattr(module, "EXACT", 5)
    store = open_store(tmp_path / "corpus")
    mine(store, 20)
    cluster_corpus(store, prints, CONFIG)
    mine(store, 30)
    gather, before = module.gather_tracks, sorted(store.list(""))

    def gather_others(*arguments):
        tracks = gather(*arguments)
        narrow = np.ascontiguousarray(tracks.vectors[:, : kind.get("width", 8)])
        return replace(tracks, model=kind.get("model", tracks.model), vectors=narrow)

    monkeypatch.setattr(module, "gather_tracks", gather_others)
    with pytest.raises(EmbeddingError, match="2 kinds"):
        cluster_corpus(store, prints, CONFIG)
    assert sorted(store.list("")) == before


def spoiled(embedded, change):
    rows = [row for row in embedded.to_pylist() if row["status"] == "ok"]
    change(rows)
    return pa.Table.from_pylist(rows, schema=embedded.schema)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows[1].update(model="other"), "2 models"),
        (lambda rows: rows[1]["faces"][0].update(vector=[float("nan")] * 8), "has NaN"),
        (lambda rows: rows[1]["faces"][0].update(vector=[0.0] * 8), "zero vector"),
        (lambda rows: rows[1]["faces"][0].update(vector=[1.0] * 4), r"\[4, 8\] numbers"),
    ],
)
def test_embeddings_that_cannot_be_clustered_are_named(mine, prints, tmp_path, change, message):
    store = open_store(tmp_path / "corpus")
    mine(store, 12)
    tracked, scored, embedded = (read_step(store, step, prints[step]) for step in module.STEPS)
    with pytest.raises(EmbeddingError, match=message):
        gather_tracks(tracked, scored, spoiled(embedded, change), CONFIG)
    tracks = gather_corpus(store, prints, CONFIG, DenyList())
    with pytest.raises(EmbeddingError, match="2 kinds"):
        join_tracks([tracks, replace(tracks, model="other")])


def test_blocks_on_disk_say_what_blocks_in_memory_say(tmp_path, monkeypatch):
    monkeypatch.setattr(linkage, "EXACT", 100)
    monkeypatch.setattr(linkage, "BLOCK_SIZE", 512)
    tracks, store = draw_tracks(3000, 160, 6), open_store(tmp_path)

    def stored(projected, members, at_least):
        blocks = write_blocks(store, projected, members, at_least)
        assert neighbours_step(store).input == blocks.schema
        return read_pairs(search_stored_blocks(store, blocks))

    seen = TrackSpans(tracks.video, tracks.start, tracks.end)
    labels = [cluster_rows(tracks.vectors, seen, 0.5, search=search) for search in (stored, search_blocks)]
    np.testing.assert_array_equal(*labels)
