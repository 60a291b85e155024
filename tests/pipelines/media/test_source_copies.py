"""A remote file is fetched once; its copy has the bytes of its name, is bounded, and is not lost while it is in use."""

from __future__ import annotations

import hashlib
import os
import time
from collections import Counter
from pathlib import Path
from typing import ClassVar

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from infra.storage import open_store
from pipelines.media.source_copies import BytesDiffer, SourceCopies
from pipelines.mining.config import MiningConfig
from pipelines.mining.digests import digest_sources, known_digests, sources_to_mine
from pipelines.mining.fetch_waves import fetch_waves
from pipelines.mining.source_listing import list_sources
from pipelines.mining.video_tools import SourceChanged, video_tools


class Counting(MemoryFileSystem):
    """A remote store that counts the fetches of each file."""

    cachable = False
    fetches: ClassVar[Counter[str]] = Counter()

    def open(self, path, mode="rb", **options):
        if "r" in mode:
            self.fetches[path.rpartition("/")[2]] += 1
        return super().open(path, mode, **options)


@pytest.fixture
def remote(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    files = Counting()
    files.store.clear()
    Counting.fetches.clear()
    for number in range(4):
        files.pipe(f"/bucket/{number}.mp4", bytes([number]) * 1000)
    return files


def sha(number):
    return hashlib.sha256(bytes([number]) * 1000).hexdigest()


def test_digesting_and_two_readers_fetch_a_file_once(remote, tmp_path):
    store = open_store(tmp_path / "corpus")
    sources = digest_sources(list_sources("memory://bucket", remote), store, remote)
    assert sources["video_id"].to_pylist() == sorted(sha(number) for number in range(4))
    tools = video_tools(MiningConfig(), remote)
    for row in sources.to_pylist() * 2:
        with tools.local(row["uri"], row["video_id"]) as path:
            assert hashlib.sha256(path.read_bytes()).hexdigest() == row["video_id"] and path.suffix == ".mp4"
    assert set(remote.fetches.values()) == {1} and len(known_digests(store)) == 4
    left = sorted(path.name for path in SourceCopies(remote).folder.iterdir())
    assert left == sources["video_id"].to_pylist(), "no part and no link is left behind"


def test_a_corpus_larger_than_the_disk_is_fetched_in_waves(remote, tmp_path, monkeypatch):
    monkeypatch.setattr(SourceCopies, "room", lambda self: 2500)
    store, listed = open_store(tmp_path), list_sources("memory://bucket", remote)
    assert sum(source.size for source in listed) > 2500
    waves = fetch_waves(listed, known_digests(store), 2500)
    assert [source for wave in waves for source in wave] == sorted(listed) and len(waves) > 1
    tools, found = video_tools(MiningConfig(), remote), []
    for wave in waves:
        assert sum(source.size for source in wave) <= 2500
        sources, _ = sources_to_mine(wave, store, remote)
        assert sum(path.stat().st_size for path in SourceCopies(remote).folder.iterdir()) <= 2500
        for row in sources.to_pylist():
            with tools.local(row["uri"], row["video_id"]):
                found.append(row["video_id"])
            tools.release(row["uri"], row["video_id"])
        assert not list(SourceCopies(remote).folder.iterdir()), "a copy goes when it was used"
    assert set(remote.fetches.values()) == {1}
    assert sorted(set(found)) == digest_sources(listed, store, remote)["video_id"].to_pylist()
    assert fetch_waves(listed, known_digests(store), 2500) == [sorted(listed)], "of known digest: nothing to fetch"
    assert [len(wave) for wave in fetch_waves(listed, (), 1)] == [1] * len(listed), "a file larger than the bound"


def test_groups_may_be_read_in_any_order(remote, tmp_path):
    def backwards(read, groups):
        return [read(group) for group in reversed(groups)]

    listed = list_sources("memory://bucket", remote)
    plain = digest_sources(listed, open_store(tmp_path / "a"), remote)
    assert digest_sources(listed, open_store(tmp_path / "b"), remote, run=backwards).equals(plain)


def test_a_copy_that_is_gone_is_fetched_again_and_a_changed_file_is_refused(remote, tmp_path):
    tools = video_tools(MiningConfig(), remote)
    with tools.local("memory://bucket/1.mp4", sha(1)) as path:
        assert path.read_bytes() == bytes([1]) * 1000
    (SourceCopies(remote).folder / sha(1)).unlink()
    remote.pipe("/bucket/1.mp4", b"another film")
    with pytest.raises(SourceChanged, match=r"1\.mp4: other bytes"), tools.local("memory://bucket/1.mp4", sha(1)):
        pass


def test_copies_are_bounded_and_one_in_use_stays_readable(remote, tmp_path):
    copies, now = SourceCopies(remote, tmp_path / "copies", max_bytes=2500), time.time()
    with copies.open("memory://bucket/0.mp4", sha(0)) as path:
        os.utime(copies.folder / sha(0), (now - 100, now - 100))
        for number in (1, 2, 3):
            copies.fetch(f"memory://bucket/{number}.mp4")
            os.utime(copies.folder / sha(number), (now - 90 + number, now - 90 + number))
        assert path.read_bytes() == bytes([0]) * 1000
    kept = {name.name for name in Path(copies.folder).iterdir()}
    assert sha(3) in kept and sha(0) not in kept and len(kept) <= 2
    os.utime(copies.folder / sha(3), (1, 1))
    copies.fetch("memory://bucket/2.mp4")
    assert {path.name for path in copies.folder.iterdir()} == {sha(2)}, "what nobody used for a day is removed"
    with pytest.raises(FileNotFoundError):
        copies.fetch("memory://bucket/none.mp4")
    assert not list(copies.folder.glob("*.part"))


def test_other_bytes_than_the_id_are_an_error(remote, tmp_path):
    copies = SourceCopies(remote, tmp_path / "copies")
    with pytest.raises(BytesDiffer), copies.open("memory://bucket/0.mp4", sha(1)):
        pass
