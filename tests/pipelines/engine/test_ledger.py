"""The ledger is compacted: few files, each attempt once, whenever the process is killed and whoever reads."""

from __future__ import annotations

from collections import Counter

import pyarrow as pa
import pytest

from infra.storage import FolderStore, open_store
from mfhq.corpus_tables import COMPACTION, ledger_files, read_attempts
from mfhq.parquet import to_parquet
from mfhq.paths import ledger_path
from mfhq.schema import ATTEMPTS
from mfhq.takedowns import Takedown, token
from pipelines.engine import ledger
from pipelines.engine.ledger import compact_ledger
from pipelines.takedown.sweep import record_takedown, sweep

FILES, ROWS = 40, 3


@pytest.fixture(autouse=True)
def no_sync(monkeypatch):
    monkeypatch.setattr("os.fsync", lambda descriptor: None)


def attempt(step, number, run):
    row = {"item_id": f"item-{number}", "step": step, "fingerprint": "f", "attempt": 1, "status": "ok"}
    return row | {"reason": "", "error": None, "seconds": 0.5, "bytes": number, "host": "h", "run_id": run}


def fill(store, files=FILES, step="tracks", run="r"):
    for number in range(files):
        rows = [attempt(step, ROWS * number + i, run) for i in range(ROWS)]
        data = to_parquet(pa.Table.from_pylist(rows, schema=ATTEMPTS))
        store.write(ledger_path(step, "f", number % 64, run, f"{number:012d}"), data)


def recorded(store):
    return Counter((row["step"], row["item_id"], row["bytes"]) for row in read_attempts(store).to_pylist())


def test_every_attempt_stays_and_few_files_are_left(tmp_path, monkeypatch):
    monkeypatch.setattr(ledger, "FULL_ROWS", 60)
    monkeypatch.setattr(ledger, "READERS", 4)
    store = open_store(tmp_path)
    fill(store)
    fill(store, files=5, step="probe")
    before = recorded(store)
    assert compact_ledger(store) == FILES, "five files of a step are left alone"
    assert recorded(store) == before and set(before.values()) == {1}
    tracks = [path.rpartition("/")[2] for path in store.list("ledger/tracks")]
    assert [name[:19] for name in tracks] == ["compacted-00000024-", "compacted-00000096-"]
    assert len(list(store.list("ledger/probe"))) == 5
    files = list(store.list("ledger"))
    assert compact_ledger(store) == 0 and list(store.list("ledger")) == files
    fill(store, run="later")  # attempts of a later run; full files are not read again
    compact_ledger(store)
    assert {path for path in files if "compacted-00000096" in path} <= set(store.list("ledger/tracks"))
    assert sum(recorded(store).values()) == sum(before.values()) + FILES * ROWS


class Crashing(FolderStore):
    left = 0

    def _count(self, do):
        type(self).left -= 1
        if self.left < 0:
            raise KeyboardInterrupt
        return do()

    def write(self, path, data):
        return self._count(lambda: super(Crashing, self).write(path, data))

    def create(self, path, data):
        return self._count(lambda: super(Crashing, self).create(path, data))

    def delete(self, path):
        return self._count(lambda: super(Crashing, self).delete(path))


def test_a_kill_at_any_moment_leaves_one_truth(tmp_path, monkeypatch):
    monkeypatch.setattr(ledger, "SMALL_FILES", 3)
    monkeypatch.setattr(ledger, "READERS", 1)
    kills = 0
    while True:
        store = open_store(tmp_path / f"{kills}")
        fill(store, files=6)
        before = recorded(store)
        Crashing.left = kills
        try:
            compact_ledger(Crashing(str(tmp_path / f"{kills}")))
        except KeyboardInterrupt:
            kills += 1
        else:
            break
        assert recorded(store) == before
        compact_ledger(store)
        assert recorded(store) == before
        assert len(list(store.list("ledger"))) <= 3 and not any(COMPACTION in path for path in store.list("ledger"))
    assert kills == 9, "a record, a file, six deletions and the record's"


def test_a_takedown_after_a_kill_finds_each_attempt_once(tmp_path, monkeypatch):
    monkeypatch.setattr(ledger, "SMALL_FILES", 3)
    monkeypatch.setattr(ledger, "READERS", 1)
    store = open_store(tmp_path)
    fill(store, files=6)
    before = recorded(store)
    Crashing.left = 4
    with pytest.raises(KeyboardInterrupt):
        compact_ledger(Crashing(str(tmp_path)))
    named = "item-7"
    record_takedown(store, Takedown("t1", "video", token(named), "2026-11-28T00:00:00Z", (token(named),)))
    assert sweep(store).is_clean
    assert recorded(store) == Counter({key: n for key, n in before.items() if key[1] != named})
    assert len(ledger_files(store)) == 1


def test_a_reader_that_listed_before_a_compaction_reads_again(tmp_path, monkeypatch):
    monkeypatch.setattr(ledger, "SMALL_FILES", 3)
    store = open_store(tmp_path)
    fill(store, files=6)
    before, listed = recorded(store), ledger_files(store)
    compact_ledger(store)
    answers = iter([listed, ledger_files(store)])
    monkeypatch.setattr("mfhq.corpus_tables.ledger_files", lambda *_: next(answers))
    assert recorded(store) == before
