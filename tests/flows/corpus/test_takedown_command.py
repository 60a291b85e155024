"""``ffavatar takedown`` on the command line: what it shows, asks and returns."""

from __future__ import annotations

import hashlib
import io
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import ExifTags, Image

from flows.cli import main
from infra.settings import load_settings
from infra.storage import open_store
from infra.tracking import tracked_run
from mfhq.catalog import Catalog
from mfhq.corpus_tables import record_run
from mfhq.takedowns import read_takedowns
from tests.support import remnants, takedown_corpus, toy_mining
from tests.support.toy_run import run_toy


@pytest.fixture
def corpus(tmp_path, monkeypatch):
    monkeypatch.setenv("FFAVATAR_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("os.fsync", lambda descriptor: None)
    store = open_store(tmp_path / "corpus")
    takedown_corpus.build(store, toy_mining, run_toy, monkeypatch, n=4)
    return store


def run_takedown(capsys, corpus, *words):
    """(status, standard output, standard error)."""
    status = 0
    try:
        main(["takedown", "--corpus", corpus.uri, *map(str, words)])
    except SystemExit as ended:
        status = int(ended.code or 0)
    said = capsys.readouterr()
    return status, said.out, said.err


def test_it_shows_asks_and_returns_0_only_when_all_is_gone(corpus, capsys, tmp_path, monkeypatch):
    status, _, err = run_takedown(capsys, corpus)
    assert status == 2 and "nothing is named" in err and "--identity" in err
    status, _, err = run_takedown(capsys, corpus, "--video", "nobody", "--yes")
    assert status == 2 and "video 'nobody' is nowhere" in err and len(err.splitlines()) == 1
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    status, _, _ = run_takedown(capsys, corpus, "--identity", "person-0")
    assert status != 0 and not read_takedowns(corpus), "who does not say yes changes nothing"
    corpus.write("notes.txt", b"person-0 is in here")
    status, out, _ = run_takedown(capsys, corpus, "--identity", "person-0", "--yes")
    assert status == 1 and "notes.txt" in out and "delete it" in out
    corpus.delete("notes.txt")
    status, out, _ = run_takedown(capsys, corpus, "--identity", "person-0", "--yes")
    assert status == 0 and "on record already" in out and "finishing 1 take-downs" in out
    assert "train-1" in out and "nothing of it is left" in out
    assert "person-0" not in Catalog(corpus).open().table("identities")["identity_id"].to_pylist()
    assert run_takedown(capsys, corpus)[0] == 0


def test_every_byte_under_the_home_and_the_corpus_is_searched(corpus, capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    names, pieces = takedown_corpus.traces(corpus, toy_mining, person="person-0")
    uri = next(name for name in names if name.startswith("/videos"))
    settings = load_settings()
    for person in ("person-0", "person-1"):  # both runs read the snapshot, and one names its person in its settings
        with tracked_run(settings, "pretrain", f"run of {person}", {"identity": person}) as run:
            snapshot = Catalog(corpus).open("v1")
            run.log_snapshot(corpus.uri, "v0001", snapshot.digest, "input")
            seen = pa.table({"identity_id": [person, "person-2"], "source": [uri, "another"], "pictures": [2, 3]})
            run.log_table(seen, "seen.parquet")
            for number, piece in enumerate(pieces[:4]):
                run.log_bytes(piece, f"pictures/{number}.png")
            run.log_bytes(b"weights", "model.safetensors")
            record_run(corpus, run.run_id, "pretrain", "v0001")
    home, residue = settings.home, tmp_path / "tmp/ffavatar-train-x"
    (home / "notes.log").write_text(f"{uri} was mined")
    residue.write_bytes(pieces[0])
    os.utime(residue, (1e9, 1e9))
    roots = [open_store(tmp_path / name) for name in ("corpus", "home", "tmp")]
    held = {root.url(path) for root in roots for path in remnants.remnants(root, names, pieces)}
    parts = ("corpus", "mlflow.db", "seen.parquet", "pictures/0.png", "notes.log", "ffavatar-train-x")
    assert all(any(part in path for path in held) for part in parts)
    status, out, _ = run_takedown(capsys, corpus, "--identity", "person-0", "--yes")
    left = {root.url(path) for root in roots for path in remnants.remnants(root, names, pieces)}
    assert status == 0 and not any(path.startswith(corpus.url("")) for path in left)
    listed = "".join(out.split())
    assert {Path(path).name for path in left} >= {"mlflow.db", "notes.log"}
    for path in left | set(map(str, home.rglob("*.safetensors"))):
        assert path in listed and hashlib.sha256(Path(path).read_bytes()).hexdigest() in listed, path


def test_a_photograph_that_shows_nobody(corpus, capsys, tmp_path):
    (tmp_path / "text.png").write_text("no image")
    Image.new("RGB", (320, 320), (99, 99, 99)).save(tmp_path / "grey.png")
    for name, says in {"none.png": "no such file", "text.png": "not an image", "grey.png": "0 faces"}.items():
        status, _, err = run_takedown(capsys, corpus, "--photo", tmp_path / name, "--yes")
        assert status == 2 and says in err and len(err.strip().splitlines()) == 1
    assert not read_takedowns(corpus)


def test_the_photograph_is_turned_as_its_camera_says(corpus, capsys, tmp_path, monkeypatch):
    upright = np.zeros((48, 32, 3), np.uint8)
    upright[:24] = (200, 30, 30)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6  # "turn by 90 degrees clockwise to show it"
    Image.fromarray(np.rot90(upright)).save(tmp_path / "turned.png", exif=exif)
    images = []

    class NoFaces:
        def __init__(self, pack) -> None: ...

        def detect(self, image):
            images.append(image)
            return []

    monkeypatch.setattr("pipelines.faces.analysis.FaceAnalyzer", NoFaces)
    status, _, err = run_takedown(capsys, corpus, "--photo", tmp_path / "turned.png", "--yes")
    assert status == 2 and "0 faces" in err
    np.testing.assert_array_equal(images[0], upright)
