"""Sources on record: the newest row of an item counts, whatever the order of the keys, the names and the writers."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pytest

from infra.storage import open_store
from mfhq.parquet import to_parquet
from pipelines.engine.sources import read_sources, record_sources
from pipelines.mining.digests import drop_superseded_failures
from pipelines.mining.schemas import SOURCES


def listed(*rows):
    names = ("video_id", "uri", "size", "licence", "consent")
    return pa.Table.from_pylist([dict(zip(names, row, strict=True)) for row in rows], schema=SOURCES)


@pytest.fixture
def store(tmp_path):
    return open_store(tmp_path)


def on_record(store):
    return [tuple(row.values()) for row in read_sources(store, SOURCES, "video_id").to_pylist()]


def test_a_corrected_list_wins_and_a_repeated_one_adds_nothing(store):
    old = ("b", "/old.mp4", 3, None, None), ("a", "/a.mp4", 2, "CC0", "yes")
    record_sources(store, listed(*old), "video_id")
    record_sources(store, listed(*old), "video_id")
    assert len(list(store.list("sources"))) == 1
    new = ("b", "/new.mp4", 3, "CC BY", "signed")
    record_sources(store, listed(new, old[1]), "video_id")
    assert on_record(store) == [old[1], new]
    record_sources(store, listed(old[0]), "video_id")  # moved back, by a list that says nothing of its licence
    assert on_record(store) == [old[1], (*old[0][:3], "CC BY", "signed")]
    assert len(list(store.list("sources"))) == 3


def test_what_an_earlier_version_recorded_is_older(store):
    store.write("sources/ffffffffffffffff.parquet", to_parquet(listed(("a", "/a.mp4", 1, None, None))))
    assert on_record(store) == [("a", "/a.mp4", 1, None, None)]
    record_sources(store, listed(("a", "/b.mp4", 1, None, None)), "video_id")
    assert on_record(store) == [("a", "/b.mp4", 1, None, None)]


def test_of_many_that_record_at_once_none_is_lost(store):
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: record_sources(store, listed((str(i), "/x.mp4", 1, None, None)), "video_id"), range(8)))
    assert [row[0] for row in on_record(store)] == [str(i) for i in range(8)]
    assert len(list(store.list("sources"))) == 8


def test_a_file_that_could_be_read_later_is_not_unreachable_beside_itself():
    gone, back, other = ("0", "/gone.mp4", -1), ("1", "/back.mp4", -1), ("2", "/back.mp4", 5)
    kept = drop_superseded_failures(listed(*((*row, None, None) for row in (gone, back, other))))
    assert kept["video_id"].to_pylist() == ["0", "2"]
