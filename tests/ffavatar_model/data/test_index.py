"""People's images in tables that processes share: the same as a plain loop over rows finds."""

from __future__ import annotations

import copy
import gc
import io
import json
import os
import random
import signal
import tempfile
import threading
import time
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pytest
import torch

from ffavatar_model.data.dataset import IdentityDataset
from ffavatar_model.data.index import GATHERED_ROWS, SharedMeshes, SharedTable
from ffavatar_model.data.sampling import SamplingConfig
from mfhq.schema import BLOB_REF, FACES, IDENTITY_FACES, MESH_468


def tables(n: int) -> tuple[pa.Table, pa.Table]:
    """``n`` faces of people, shuffled: rejected ones, without crop, matte or mesh; equal ranks."""
    draw = random.Random(0)
    faces, chosen = [], []
    for i in range(n):
        crop, matte = (_reference(draw, i) for _ in "ab")
        faces.append(
            {
                "face_id": f"f{draw.randrange(10**9):09d}é",
                "track_id": "",
                "video_id": "",
                "frame_index": i,
                "reason": "",
                "status": draw.choice(["ok"] * 8 + ["rejected"]),
                "crop": None if i % 11 == 3 else crop,
                "matte": None if i % 7 == 1 else matte,
                "mesh468": None if i % 5 == 2 else [float(i)] * 1404,
            }
        )
        for person in draw.sample(range(n // 3), 2 if i % 13 == 0 else 1):  # some faces were given to two people
            row = {"identity_id": f"p{person}", "rank": draw.randrange(3), "why": "best"}
            chosen.append({**row, "face_id": faces[-1]["face_id"]})
    chosen.append({"identity_id": "p1", "face_id": "unknown", "rank": 0, "why": "best"})
    draw.shuffle(chosen)
    return pa.Table.from_pylist(faces, schema=FACES), pa.Table.from_pylist(chosen, schema=IDENTITY_FACES)


def _reference(draw: random.Random, i: int) -> dict[str, Any]:
    digest = draw.choice([None, draw.randbytes(32).hex()])
    return {"uri": f"pack{draw.randrange(3)}", "offset": i, "length": draw.randrange(1, 9), "sha256": digest}


def plainly(faces: pa.Table, chosen: pa.Table) -> list[tuple[str, list[dict[str, Any]]]]:
    by_id = {row["face_id"]: row for row in faces.to_pylist() if row["status"] == "ok" and row["crop"] is not None}
    people: dict[str, list[tuple[int, str]]] = {}
    for row in chosen.to_pylist():
        if row["face_id"] in by_id:
            people.setdefault(row["identity_id"], []).append((row["rank"], row["face_id"]))
    return [(p, [by_id[f] for _, f in sorted(people[p])]) for p in sorted(people) if len(people[p]) > 1]


def place(row: dict[str, Any] | None) -> dict[str, Any] | None:
    if row is None:
        return None
    digest = row.get("sha256")
    return {name: row[name] for name in ("uri", "offset", "length")} | {"sha64": digest and int(digest[:16], 16)}


@pytest.mark.parametrize(("part", "rows"), [(None, GATHERED_ROWS), (7, 20)])
def test_people_and_images_are_those_of_a_plain_loop(part: int | None, rows: int, monkeypatch) -> None:
    monkeypatch.setattr("ffavatar_model.data.index.GATHERED_ROWS", rows)
    faces, chosen = tables(200)
    pieces = {i: faces.slice(i * part, part) for i in range(-(-len(faces) // part))} if part else {}
    read: list[int] = []

    def parts(columns, numbers):
        for i, piece in pieces.items():
            if numbers is None or i in numbers:
                read.append(i)
                yield i, piece.select(list(columns))

    given = parts if part else faces
    data = IdentityDataset(SamplingConfig(), 32, "d", lambda *_: b"", identity_faces=chosen, faces=given)
    expected = plainly(faces, chosen)
    assert 20 < len(data.people) == len(expected)
    for (person, found), (name, wanted) in zip(data.people, expected, strict=True):
        assert person == name and [row["id"] for row in found] == [row["face_id"] for row in wanted]
        for row, face in zip(found, wanted, strict=True):
            assert (row["crop"], row["matte"]) == (place(face["crop"]), place(face["matte"]))
            assert (row["mesh"] is None) == (face["mesh468"] is None)
            assert row["mesh"] is None or data.meshes[row["mesh"]].eq(face["mesh468"][0]).all()
    listed = [(person, row["face_id"]) for person, wanted in expected for row in wanted]
    assert list(zip(*data.people.image_ids().to_pydict().values(), strict=True)) == listed
    kept = np.arange(len(expected)) % 3 == 1
    some = data.select(kept, SamplingConfig(drivers=9))
    assert [p for p, _ in some.people] == [p for p, _ in expected[1::3]] and len(some.choose_sample(0).drivers) == 9
    assert some.people.image_ids()["id"].to_pylist() == [row["face_id"] for _, w in expected[1::3] for row in w]
    assert not part or max(read.count(i) for i in pieces) == 2


def test_what_travels_to_a_loader_process_does_not_grow() -> None:
    sizes = []
    for n in (30, 600):
        faces, chosen = tables(n)
        data = IdentityDataset(SamplingConfig(), 32, "d", _nothing, identity_faces=chosen, faces=faces)
        sent = io.BytesIO()
        ForkingPickler(sent).dump(data)
        sizes.append(sent.tell())
    assert abs(sizes[1] - sizes[0]) < 50 and sizes[0] < 10_000, sizes


def test_a_process_maps_the_same_file_which_goes_with_its_owner(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    table = SharedTable(pa.table({"id": ["a", "b"], "crop.uri": ["u", None]}))
    meshes = SharedMeshes([np.full((n, 468, 2), n, np.float32) for n in (1, 3)])
    files = set(tmp_path.iterdir())
    assert len(files) == 2
    context = torch.multiprocessing.get_context("forkserver")
    here, there = context.Pipe()
    process = context.Process(target=_read_rows, args=(table, meshes, there))
    process.start()
    assert here.recv() == ([{"id": "a", "crop": {"uri": "u"}}, {"id": "b", "crop": None}], [1.0, 3.0, 3.0, 3.0])
    process.join()
    assert set(tmp_path.iterdir()) == files, "a process that only reads leaves the files"
    twin = copy.deepcopy(meshes)
    del table, meshes
    gc.collect()
    assert len(list(tmp_path.iterdir())) == 1
    assert twin[-1].eq(3).all() and len(twin) == 4 and len(SharedMeshes([])) == 0
    del twin
    gc.collect()
    assert list(tmp_path.iterdir()) == []


def _read_rows(table: SharedTable, meshes: SharedMeshes, answer: Any) -> None:
    answer.send(([table.row(i) for i in range(len(table))], [float(mesh.mean()) for mesh in meshes]))


def test_the_file_of_an_owner_that_was_killed_is_removed_by_the_next(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    process = torch.multiprocessing.get_context("forkserver").Process(target=_write_and_die, args=(tmp_path,))
    process.start()
    process.join()
    (abandoned,) = tmp_path.iterdir()
    living = SharedTable(pa.table({"id": ["a"]}))
    assert abandoned.exists(), "it is young: its owner may not have locked it yet"
    for path in tmp_path.iterdir():
        os.utime(path, (0, 0))
    twin = SharedTable(pa.table({"id": ["b"]}))
    assert not abandoned.exists() and len(list(tmp_path.iterdir())) == 2
    assert (living.row(0), twin.row(0)) == ({"id": "a"}, {"id": "b"})


def _write_and_die(folder: Path) -> None:
    tempfile.tempdir = str(folder)
    table = SharedTable(pa.table({"id": ["a"]}))
    assert len(table)
    os.kill(os.getpid(), signal.SIGKILL)


def _nothing(uri: str, offset: int, length: int) -> bytes:
    return b""


FACES_EACH, GROUP = 5, 65_536


def large(n: int, meshes: bool) -> tuple[pa.Table, Any]:
    """``identity_faces`` of ``n`` people, shuffled, and their faces in parts as large as Parquet's row groups."""
    draw, many = np.random.default_rng(0), n * FACES_EACH

    def ids(count: int) -> pa.Array:
        text = np.frombuffer(draw.bytes(count * 16).hex().encode(), np.uint8)
        ends = np.arange(0, 32 * count + 1, 32, dtype=np.int32)
        return pa.StringArray.from_buffers(count, pa.py_buffer(ends), pa.py_buffer(text))

    def random_references() -> pa.Array:
        uris = pa.array([f"packs/{i:04x}/part-00000.pack" for i in range(1024)]).take(draw.integers(0, 1024, many))
        numbers = [pa.array(draw.integers(0, high, many)) for high in (1 << 28, 30_000)]
        return pa.StructArray.from_arrays([uris, *numbers, pa.nulls(many, pa.string())], fields=list(BLOB_REF))

    face, turn = ids(many), draw.permutation(many)
    rank = pa.array(np.tile(np.arange(FACES_EACH, dtype=np.int32), n))
    person = ids(n).take(np.repeat(np.arange(n), FACES_EACH))
    chosen = pa.table({"identity_id": person, "face_id": face, "rank": rank}).take(turn)
    faces = pa.table(
        {"face_id": face, "status": pa.repeat("ok", many), "crop": random_references(), "matte": random_references()}
    )
    mesh = pa.nulls(GROUP, MESH_468)
    if meshes:
        mesh = pa.FixedSizeListArray.from_arrays(pa.array(draw.random(GROUP * 1404, np.float32)), type=MESH_468)

    def parts(columns, numbers):
        for i in range(-(-many // GROUP)) if numbers is None else numbers:
            part = faces.slice(i * GROUP, GROUP)
            yield i, part.append_column("mesh468", mesh.slice(0, len(part))).select(list(columns))

    return chosen, parts


@pytest.mark.soak
@pytest.mark.parametrize(("people", "meshes"), [(1_000_000, False), (200_000, True)])
def test_a_million_people(people: int, meshes: bool, capsys) -> None:
    """Memory while the data set is built, beside the tables that it is given; what is sent to a loader process."""
    chosen, parts = large(people, meshes)
    here, most, done = psutil.Process(), [0], threading.Event()

    def own() -> int:
        memory = here.memory_info()
        return int(memory.rss - memory.shared)

    def watch() -> None:
        while not done.wait(0.05):
            most[0] = max(most[0], own())

    pa.default_memory_pool().release_unused()
    before, wall, cpu = own(), time.perf_counter(), time.process_time()
    watching = threading.Thread(target=watch)
    watching.start()
    data = IdentityDataset(SamplingConfig(), 256, "d", _nothing, identity_faces=chosen, faces=parts)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    done.set()
    watching.join()
    sent = io.BytesIO()
    ForkingPickler(sent).dump(data)
    tables = sum(t.table.nbytes for t in (data.people._people, data.people._images))
    with capsys.disabled():
        print(
            json.dumps(
                {
                    "people": people,
                    "faces": people * FACES_EACH,
                    "meshes": meshes,
                    "wall_s": round(wall, 1),
                    "cpu_s": round(cpu, 1),
                    "peak_mb": (most[0] - before) >> 20,
                    "kept_mb": (own() - before) >> 20,
                    "shared_tables_mb": tables >> 20,
                    "mapped_meshes_mb": len(data.meshes) * 468 * 2 * 4 >> 20,
                    "sent_bytes": sent.tell(),
                }
            )
        )
    assert len(data) == people and most[0] - before < 3 << 30 and tables < 1 << 30 and sent.tell() < 10_000
