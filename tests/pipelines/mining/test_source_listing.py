"""Sources are found wherever they lie, known by their bytes, read once; what gives nothing says so in one line."""

from __future__ import annotations

import hashlib
import io
import os
import socket
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from infra.storage import open_store
from mfhq.ids import digest_file
from pipelines.media.local_files import NOT_A_FILE, SPARSE_FILE, canonical_uri, file_fault, local_path
from pipelines.mining.digests import digest_sources, known_digests
from pipelines.mining.probe_step import probe_videos
from pipelines.mining.source_listing import list_sources
from pipelines.mining.source_lists import SourceError


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
    hidden = {"/bucket/one/.hidden/b.mp4": b"no", "/bucket/one/._a.mp4": b"no"}
    named = {"/bucket/one/a.mp4": b"aaa", "/bucket/one/readme.md": b"no", "/bucket/list.txt": b"one/a.mp4\n"}
    memory.pipe(named | hidden)
    for source in ("memory://bucket/one", "memory://bucket/list.txt"):
        said: list[str] = []
        (found,) = list_sources(source, memory, said.append)
        assert memory.cat_file(found.uri) == b"aaa" and found.size == 3
        assert ["(.md 1)" in line for line in said] == ([True] if source.endswith("one") else [])
    with pytest.raises(SourceError, match="no video under this prefix"):
        list_sources("memory://bucket/none", memory)


def test_ids_are_digests_of_the_bytes_and_each_file_is_read_once(folder, tmp_path, monkeypatch):
    store = open_store(tmp_path / "corpus")
    sources = list_sources(folder)
    table = digest_sources(sources, store)
    ids = {os.path.relpath(row["uri"], folder): row["video_id"] for row in table.to_pylist()}
    expected = {"b.MP4": b"bb", "deep/er/a.mkv": b"aaa", "empty.mp4": b""}  # copy.mov has b.MP4's bytes
    assert ids == {name: hashlib.sha256(data).hexdigest() for name, data in expected.items()}
    assert table["video_id"].to_pylist() == sorted(ids.values())
    assert len(known_digests(store)) == 4

    read = []
    import pipelines.mining.digests as digests

    reading = digests.digest_file
    monkeypatch.setattr(digests, "digest_file", lambda stream, n: read.append(stream.name) or reading(stream, n))
    assert digest_sources(sources[::-1], store).equals(table) and not read
    (folder / "b.MP4").write_bytes(b"changed")
    changed = digest_sources(list_sources(folder), store)
    assert [Path(name).name for name in read] == ["b.MP4"] and changed.num_rows == 4


def test_a_file_that_cannot_be_read_is_a_row_of_its_own(folder, tmp_path):
    (folder / "list.txt").write_text("b.MP4\ngone.mp4\n")
    rows = digest_sources(list_sources(folder / "list.txt"), open_store(tmp_path / "corpus")).to_pylist()
    assert sorted((Path(r["uri"]).name, r["size"]) for r in rows) == [("b.MP4", 2), ("gone.mp4", -1)]
    assert len({r["video_id"] for r in rows}) == 2


def test_a_source_has_one_uri_however_it_is_named(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(folder / "deep")
    (tmp_path / "list.txt").write_text("my videos/deep/../b.MP4\n")
    names = ["..", "../deep/..", str(folder), folder.as_uri(), "../../my videos/."]
    assert {tuple(s.uri for s in list_sources(name)) for name in names} == {tuple(s.uri for s in list_sources(folder))}
    assert [s.uri for s in list_sources("../../list.txt")] == [str(folder / "b.MP4")] == [canonical_uri("../b.MP4")]
    assert canonical_uri("file:///a%20b/../c.mp4") == "/c.mp4" and canonical_uri("s3://b/../x") == "s3://b/../x"


def test_a_name_that_is_not_utf8_harms_nobody(folder, tmp_path):
    name = folder / os.fsdecode(b"caf\xe9.mp4")
    name.write_bytes(b"eee")
    (tmp_path / "list.txt").write_bytes(b"my videos/caf\xe9.mp4\nmy videos/b.MP4\n")
    for source in (folder, tmp_path / "list.txt"):
        rows = digest_sources(list_sources(source), open_store(tmp_path / "corpus")).to_pylist()
        (row,) = [r for r in rows if r["uri"].endswith("caf%E9.mp4")]
        assert row["video_id"] == hashlib.sha256(b"eee").hexdigest() and local_path(row["uri"]) == name


def test_what_is_no_file_is_a_row_and_never_opened(folder):
    os.mkfifo(folder / "pipe.mp4")
    with (folder / "sparse.mp4").open("wb") as file:
        file.truncate(50 << 30)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(folder / "socket.mp4"))
        (folder / "list.txt").write_text("pipe.mp4\nsparse.mp4\nsocket.mp4\n/dev/zero\nb.MP4\n")
        found = {Path(s.uri).name: s.size for s in list_sources(folder / "list.txt")}
    assert found == {"pipe.mp4": -1, "sparse.mp4": -1, "socket.mp4": -1, "zero": -1, "b.MP4": 2}
    assert {s.size for s in list_sources(folder) if Path(s.uri).stem in ("pipe", "sparse", "socket")} == {-1}
    assert [file_fault(folder / f"{name}.mp4") for name in ("pipe", "socket", "sparse")] == [
        NOT_A_FILE,
        NOT_A_FILE,
        SPARSE_FILE,
    ]
    sources = digest_sources(list_sources(folder / "list.txt"), open_store(folder / "corpus"))
    probed = probe_videos(None, sources.filter(pc.less(sources["size"], 0))).to_pylist()  # no decoder is asked
    reasons = {Path(row["uri"]).name: (row["status"], row["reason"]) for row in probed}
    assert reasons == {
        "pipe.mp4": ("rejected", NOT_A_FILE),
        "socket.mp4": ("rejected", NOT_A_FILE),
        "zero": ("rejected", NOT_A_FILE),
        "sparse.mp4": ("rejected", SPARSE_FILE),
    }


def test_files_that_the_kernel_makes_up_are_no_sources(folder):
    made_up = [Path("/proc/self/maps"), Path("/proc/kmsg"), Path("/sys/kernel/mm/transparent_hugepage/enabled")]
    made_up = [path for path in made_up if path.exists()]
    assert made_up, "this machine has none"
    (folder / "linked.mp4").symlink_to(made_up[0])
    (folder / "list.txt").write_text("\n".join(["empty.mp4", "linked.mp4", *map(str, made_up)]))
    listed = list_sources(folder / "list.txt")
    assert {s.uri for s in listed if s.size >= 0} == {str(folder / "empty.mp4")}
    sources = digest_sources(listed, open_store(folder / "corpus"))
    probed = probe_videos(None, sources.filter(pc.less(sources["size"], 0))).to_pylist()
    assert {(row["status"], row["reason"]) for row in probed} == {("rejected", NOT_A_FILE)}
    assert len(probed) == len(made_up) + 1


def test_a_digest_ends_at_the_size_that_the_file_has():
    data = bytes(range(256)) * (5 << 12)  # several blocks
    assert digest_file(io.BytesIO(data), len(data)) == hashlib.sha256(data).hexdigest()
    assert digest_file(io.BytesIO(b""), 0) == hashlib.sha256(b"").hexdigest()
    for stated in (0, 1, len(data) - 1):
        with (
            pytest.raises(OSError, match=f"more bytes come than the {stated}"),
            Path("/dev/zero").open("rb") as endless,
        ):
            digest_file(endless, stated)
        with pytest.raises(OSError, match="more bytes"):
            digest_file(io.BytesIO(data), stated)


def test_what_is_passed_over_is_counted(folder, tmp_path):
    for name in ("a.f4v", "b.qt", "c.mp4.part", "none"):
        (folder / name).write_bytes(b"x")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/away.mp4").write_bytes(b"away")
    (folder / "deep/loop").symlink_to(folder)
    (folder / "linked").symlink_to(tmp_path / "elsewhere")
    said: list[str] = []
    names = {os.path.relpath(s.uri, folder) for s in list_sources(folder, warn=said.append)}
    assert names == {"a.f4v", "b.qt", "b.MP4", "copy.mov", "deep/er/a.mkv", "empty.mp4"}
    assert [line.split(": ", 1)[1].split(";")[0].split(", such")[0] for line in said] == [
        "passed over 2 linked folders",
        "passed over 3 files whose names are not of videos (.part 1, .txt 1, no extension 1)",
    ]
    assert [Path(s.uri).name for s in list_sources(folder / "linked")] == ["away.mp4"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every folder")
def test_a_folder_that_may_not_be_read_is_counted(folder):
    (folder / "deep/er").chmod(0)
    said: list[str] = []
    assert len(list_sources(folder, warn=said.append)) == 3
    (folder / "deep/er").chmod(0o700)
    assert "1 unreadable folders" in said[0]
