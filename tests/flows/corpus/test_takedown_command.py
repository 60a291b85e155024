"""``ffavatar takedown`` on the command line: what it shows, asks and returns."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import ExifTags, Image

from flows.cli import main
from infra.storage import open_store
from mfhq.catalog import Catalog
from mfhq.takedowns import read_takedowns
from tests.support import takedown_corpus, toy_mining
from tests.support.toy_run import run_toy


@pytest.fixture
def corpus(tmp_path, monkeypatch):
    monkeypatch.setenv("FFAVATAR_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("os.fsync", lambda descriptor: None)
    store = open_store(tmp_path / "corpus")
    takedown_corpus.build(store, toy_mining, run_toy, monkeypatch, n=4)
    return store


def run(capsys, corpus, *words):
    """(status, standard output, standard error)."""
    status = 0
    try:
        main(["takedown", "--corpus", corpus.uri, *map(str, words)])
    except SystemExit as ended:
        status = int(ended.code or 0)
    said = capsys.readouterr()
    return status, said.out, said.err


def test_it_shows_asks_and_returns_0_only_when_all_is_gone(corpus, capsys, tmp_path, monkeypatch):
    status, _, err = run(capsys, corpus)
    assert status == 2 and "nothing is named" in err and "--identity" in err
    status, _, err = run(capsys, corpus, "--video", "nobody", "--yes")
    assert status == 2 and "video 'nobody' is nowhere" in err and len(err.splitlines()) == 1
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    status, _, _ = run(capsys, corpus, "--identity", "person-0")
    assert status != 0 and not read_takedowns(corpus), "who does not say yes changes nothing"
    corpus.write("notes.txt", b"person-0 is in here")
    status, out, _ = run(capsys, corpus, "--identity", "person-0", "--yes")
    assert status == 1 and "notes.txt" in out and "delete it" in out
    corpus.delete("notes.txt")
    status, out, _ = run(capsys, corpus, "--identity", "person-0", "--yes")
    assert status == 0 and "on record already" in out and "finishing 1 take-downs" in out
    assert "train-1" in out and "nothing of it is left" in out
    assert "person-0" not in Catalog(corpus).open().table("identities")["identity_id"].to_pylist()
    assert run(capsys, corpus)[0] == 0


def test_a_photograph_that_shows_nobody(corpus, capsys, tmp_path):
    (tmp_path / "text.png").write_text("no image")
    Image.new("RGB", (320, 320), (99, 99, 99)).save(tmp_path / "grey.png")
    for name, says in {"none.png": "no such file", "text.png": "not an image", "grey.png": "0 faces"}.items():
        status, _, err = run(capsys, corpus, "--photo", tmp_path / name, "--yes")
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
    status, _, err = run(capsys, corpus, "--photo", tmp_path / "turned.png", "--yes")
    assert status == 2 and "0 faces" in err
    np.testing.assert_array_equal(images[0], upright)
