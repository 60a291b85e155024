"""A folder and an S3 bucket behave alike: whole writes, conditional creates, ranges, listings, errors of one line."""

from __future__ import annotations

import errno
import os
import pickle
import socket
from concurrent.futures import ThreadPoolExecutor

import pytest

from infra.storage import FolderStore, open_store
from mfhq.store import StoreError


def test_read_write_list_delete(store):
    assert list(store.list("")) == [] and not store.exists("a/b")
    store.write("a/b", b"0123456789")
    store.write("a/c/d", b"")
    store.write("ab", b"x")
    assert store.read("a/b") == b"0123456789" and store.size("a/b") == 10
    assert store.read("a/b", 2, 3) == b"234" and store.read("a/b", 7) == b"789" and store.read("a/b", 4, 0) == b""
    assert list(store.list("a")) == list(store.list("a/")) == ["a/b", "a/c/d"]
    assert list(store.list("")) == ["a/b", "a/c/d", "ab"] and list(store.list("nowhere")) == []
    store.write("a/b", b"other")
    assert store.read("a/b") == b"other"
    store.delete("a/b")
    store.delete("a/b")
    assert not store.exists("a/b") and store.exists("ab") and not store.exists("a/c")


def test_ranges_are_of_the_object_as_it_is_now(store):
    whole = bytes(range(256)) * 20
    store.write("pack", whole)
    with ThreadPoolExecutor(8) as pool:
        parts = list(pool.map(lambda i: store.read("pack", i * 50, 50), range(100)))
    assert b"".join(parts) == whole[:5000]
    assert store.read("pack", 5100, 500) == whole[5100:], "shorter at the end"
    store.write("pack", b"another one")
    assert store.read("pack", 8, 3) == b"one" and store.read("pack", 8, 30) == b"one"
    store.write("pack", whole + b"longer")
    assert store.read("pack", len(whole), 6) == b"longer"
    store.delete("pack")
    with pytest.raises(FileNotFoundError):
        store.read("pack", 8, 3)


def test_an_s3_store_reads_ranges_with_the_fast_client(s3_server, monkeypatch):
    store = open_store("s3://corpora/fast")
    store.write("pack", b"0123456789")
    monkeypatch.setattr(type(store), "filesystem", None)  # s3fs
    assert store.read("pack", 2, 3) == b"234"


def test_only_one_of_many_creates_wins(store):
    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(lambda i: store.create("markers/1", str(i).encode()), range(8)))
    assert sum(won) == 1 and store.read("markers/1") == str(won.index(True)).encode()
    assert store.create("markers/1", b"late") is False
    assert list(store.list("")) == ["markers/1"]


def test_what_is_missing_is_a_file_not_found(store):
    store.write("here", b"")
    for ask in (store.read, store.size):
        with pytest.raises(FileNotFoundError):
            ask("not/here")


def test_it_travels(store):
    store.write("x", b"1")
    there = pickle.loads(pickle.dumps(store))
    assert there == store and there.uri == store.uri and there.read("x") == b"1"
    assert b"a-well-kept-secret" not in pickle.dumps(there), "credentials must not travel"
    assert store.filesystem.exists(store.url("x"))


@pytest.mark.parametrize("path", ["../x", "a/../../x", "/etc/x"])
def test_no_path_leads_out(store, path):
    with pytest.raises(StoreError, match="leads out of the corpus"):
        store.write(path, b"")


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        (
            "ftp://host/x",
            r"^ftp://host/x: unknown scheme 'ftp'; use file:///folder, a plain path, or s3://bucket/prefix$",
        ),
        ("s3://", r"^s3://: names no bucket; write s3://bucket/prefix$"),
    ],
)
def test_a_uri_that_is_none(uri, message):
    with pytest.raises(StoreError, match=message):
        open_store(uri)


def test_a_file_is_no_corpus(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreError, match="is a file; a corpus needs a folder"):
        open_store(tmp_path / "file")


def test_folder_uris(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = open_store("my corpus")
    assert store == open_store(f"file://{tmp_path}/my%20corpus") == open_store(tmp_path / "my corpus")
    assert store.uri == f"file://{tmp_path}/my%20corpus"
    assert not (tmp_path / "my corpus").exists(), "opening makes nothing"


def test_a_full_disk_is_said_and_leaves_nothing(tmp_path, monkeypatch):
    store = FolderStore(str(tmp_path))

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("os.fsync", full)
    for change in (store.write, store.create):
        with pytest.raises(StoreError, match="the disk is full; make room and run the same command again"):
            change("x", b"1")
    assert not list(tmp_path.iterdir())


def test_a_killed_write_is_no_file(tmp_path):
    store = FolderStore(str(tmp_path))
    store.write("a/x", b"1")
    (tmp_path / "a" / ".part-killed").write_bytes(b"half")
    assert list(store.list("a")) == ["a/x"]


def test_no_such_bucket(s3_server):
    with pytest.raises(StoreError, match=r"^s3://nobody-has-this/x: no such bucket; make it, or name another$"):
        open_store("s3://nobody-has-this/x")


def test_an_endpoint_that_does_not_answer(s3_server, monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{free.getsockname()[1]}"
    monkeypatch.setenv("FFAVATAR_S3_ENDPOINT", endpoint)
    with pytest.raises(StoreError) as caught:
        open_store("s3://corpora/x")
    text = str(caught.value)
    assert endpoint in text and "FFAVATAR_S3_ENDPOINT" in text and "\n" not in text
