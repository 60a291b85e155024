"""What a take-down leaves outside the corpus: nothing that it does not list."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from infra.storage import open_store
from mfhq.corpus_tables import record_run
from pipelines.takedown.outside import sweep_outside
from pipelines.takedown.planner import TakedownPlanner, find_exposed_runs

NAME, OTHER, IMAGE = "person-0123456789", "person-9876543210", b"pixels of the person"


def test_nothing_is_left_that_is_not_listed(tmp_path: Path) -> None:
    home, temporary = tmp_path / "home", tmp_path / "tmp"
    artifacts = home / "artifacts" / "1"
    for folder in ("saw/artifacts/pictures", "saw/artifacts/data", "other/artifacts/pictures"):
        (artifacts / folder).mkdir(parents=True)
    (temporary / "ffavatar-train-x").mkdir(parents=True)
    seen = artifacts / "saw/artifacts/data/seen.parquet"
    rows = pa.table({"identity_id": [NAME, OTHER], "source": ["a.mp4", "b.mp4"], "pictures": [2, 3]})
    pq.write_table(rows, seen)
    (artifacts / "saw/artifacts/pictures/1.png").write_bytes(IMAGE)
    (artifacts / "other/artifacts/pictures/1.png").write_bytes(b"somebody else")
    checkpoint = artifacts / "saw/artifacts/model.safetensors"
    checkpoint.write_bytes(b"weights")
    log = home / "mine.log"
    log.write_bytes(b"x" * 70 + NAME.encode() + b" was mined")
    for name, age in (("ffavatar-train-x", 9000), ("ffavatar-new", 0), ("others", 9000)):
        path = temporary / name
        (path / "clip" if path.is_dir() else path).write_bytes(IMAGE if age and "ffavatar" in name else b"-")
        os.utime(path, (time.time() - age, time.time() - age))
    found = sweep_outside([home], temporary, {NAME}, {"saw"})
    assert dict(found.left) == {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in (checkpoint, log)}
    assert pq.read_table(seen).to_pylist() == [{"identity_id": OTHER, "source": "b.mp4", "pictures": 3}]
    assert {path.name for path in temporary.iterdir()} == {"ffavatar-new", "others"}
    kept = [path for path in tmp_path.rglob("*") if path.is_file() and path not in dict(found.left)]
    held = [path.read_bytes() + str(path).encode() for path in kept]
    held += [str(pq.read_table(path).to_pylist()).encode() for path in kept if path.suffix == ".parquet"]
    assert (artifacts / "other/artifacts/pictures/1.png") in kept
    assert not any(piece in data for data in held for piece in (NAME.encode(), IMAGE))
    assert sweep_outside([home], temporary, {NAME}, {"saw"}).removed == ()


def test_a_run_of_another_corpus_whose_parent_saw_the_person_is_found(tmp_path: Path) -> None:
    first, second = open_store(tmp_path / "first"), open_store(tmp_path / "second")
    record_run(first, "parent", "pretrain", "v0001")
    record_run(second, "child", "multiview", "v0001", parent_run_id="parent")
    record_run(second, "stranger", "multiview", "v0001")
    exposed = find_exposed_runs(TakedownPlanner(first, [second]).runs, {"v0001": 4})
    assert [(run["run_id"], run["snapshot"], run["through"]) for run in exposed] == [
        ("child", f"{second.uri} v0001", "parent"),
        ("parent", "v0001", ""),
    ]
