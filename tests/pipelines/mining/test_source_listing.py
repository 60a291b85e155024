"""Sources are found wherever they lie, known by their bytes, read once; what gives nothing says so in one line."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from infra.storage import open_store
from pipelines.mining.digests import digest_sources, known_digests
from pipelines.mining.source_listing import SourceError, list_sources


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "my videos"
    (root / "deep" / "er").mkdir(parents=True)
    (root / ".hidden").mkdir()
    for name, data in [("b.MP4", b"bb"), ("deep/er/a.mkv", b"aaa"), ("copy.mov", b"bb"), ("empty.mp4", b"")]:
        (root / name).write_bytes(data)
    for name in ["notes.txt", "._b.mp4", ".hidden/c.mp4"]:
        (root / name).write_bytes(b"no")
    return root


def test_a_folder_is_searched_and_what_is_hidden_passed_over(folder):
    names = [os.path.relpath(s.uri, folder) for s in list_sources(folder)]
    assert names == ["b.MP4", "copy.mov", "deep/er/a.mkv", "empty.mp4"]
    assert list_sources(folder.as_uri()) == list_sources(folder)
    assert [s.size for s in list_sources(folder / "b.MP4")] == [2]


@pytest.mark.parametrize("kind", ["txt", "csv", "parquet"])
def test_a_list_carries_licence_and_consent_and_a_missing_file(folder, kind):
    path = folder / f"list.{kind}"
    rows = [("b.MP4", "CC-BY", "yes"), (str(folder / "deep/er/a.mkv"), "", ""), ("gone.mp4", "MIT", "")]
    if kind == "txt":
        path.write_text("# a list\n\n" + "\n".join(uri for uri, _, _ in rows))
    elif kind == "csv":
        path.write_text("\ufeffuri,licence,consent\n" + "\n".join(",".join(row) for row in rows))
    else:
        columns = dict(zip(("uri", "licence", "consent"), map(list, zip(*rows, strict=True)), strict=True))
        pq.write_table(pa.table(columns), path)
    found = {os.path.relpath(s.uri, folder): s for s in list_sources(path)}
    assert {name: s.size for name, s in found.items()} == {"b.MP4": 2, "deep/er/a.mkv": 3, "gone.mp4": -1}
    if kind != "txt":
        assert (found["b.MP4"].licence, found["b.MP4"].consent) == ("CC-BY", "yes")
        assert found["deep/er/a.mkv"].licence is None


def test_what_gives_nothing_says_so_in_one_line(folder, tmp_path):
    (tmp_path / "bare").mkdir()
    (tmp_path / "list.csv").write_text("name\nx.mp4\n")
    (tmp_path / "none.txt").write_text("# nothing\n")
    (tmp_path / "broken.parquet").write_bytes(b"PAR?")
    cases = {
        tmp_path / "nowhere": "no such folder; give a folder",
        tmp_path / "bare": "no video in this folder",
        folder / "notes.doc": "no such folder",
        tmp_path / "nowhere.txt": "no such list",
        tmp_path / "list.csv": r"the list has columns \['name'\]; it needs 'uri'",
        tmp_path / "none.txt": "names no file",
        tmp_path / "broken.parquet": "cannot be read as a list",
        "s3://bucket/prefix": "no file system for s3://",
    }
    for source, says in cases.items():
        with pytest.raises(SourceError, match=says) as error:
            list_sources(source)
        assert str(source) in str(error.value) and "\n" not in str(error.value)


def test_a_remote_prefix_and_a_remote_list(folder):
    memory = fsspec.filesystem("memory")
    memory.pipe({"/bucket/one/a.mp4": b"aaa", "/bucket/one/readme.md": b"no", "/bucket/list.txt": b"one/a.mp4\n"})
    for source in ("memory://bucket/one", "memory://bucket/list.txt"):
        (found,) = list_sources(source, memory)
        assert memory.cat_file(found.uri) == b"aaa" and found.size == 3
    with pytest.raises(SourceError, match="no video under this prefix"):
        list_sources("memory://bucket/none", memory)


def test_ids_are_digests_of_the_bytes_and_each_file_is_read_once(folder, tmp_path, monkeypatch):
    store = open_store(tmp_path / "corpus")
    sources = list_sources(folder)
    table = digest_sources(sources, store, chunk=2)
    ids = {os.path.relpath(row["uri"], folder): row["video_id"] for row in table.to_pylist()}
    expected = {"b.MP4": b"bb", "deep/er/a.mkv": b"aaa", "empty.mp4": b""}  # copy.mov has b.MP4's bytes
    assert ids == {name: hashlib.sha256(data).hexdigest() for name, data in expected.items()}
    assert table["video_id"].to_pylist() == sorted(ids.values())
    assert len(known_digests(store)) == 4

    read = []
    import pipelines.mining.digests as digests

    reading = digests.digest_file
    monkeypatch.setattr(digests, "digest_file", lambda stream: read.append(stream.name) or reading(stream))
    assert digest_sources(sources[::-1], store).equals(table) and not read
    (folder / "b.MP4").write_bytes(b"changed")
    changed = digest_sources(list_sources(folder), store)
    assert [Path(name).name for name in read] == ["b.MP4"] and changed.num_rows == 4


def test_a_file_that_cannot_be_read_is_a_row_of_its_own(folder, tmp_path):
    (folder / "list.txt").write_text("b.MP4\ngone.mp4\n")
    rows = digest_sources(list_sources(folder / "list.txt"), open_store(tmp_path / "corpus")).to_pylist()
    assert sorted((Path(r["uri"]).name, r["size"]) for r in rows) == [("b.MP4", 2), ("gone.mp4", -1)]
    assert len({r["video_id"] for r in rows}) == 2
