"""Exports through the command: the other library reads the same people, splits, crops and licences; rights count."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter

import pyarrow.parquet as pq
import pytest

from flows.cli import main
from infra.storage import open_store
from mfhq.catalog import Catalog, read_blob
from mfhq.takedowns import token
from tests.support.small_corpus import ALLOWED, PEOPLE, publish_small
from tests.support.source_tree import ROOT

LIBRARIES = {"webdataset": "webdataset", "lance": "lance", "hf": "datasets"}


@pytest.fixture
def corpus(tmp_path, monkeypatch):
    monkeypatch.setenv("FFAVATAR_HOME", str(tmp_path / "home"))
    publish_small(tmp_path / "corpus")
    return tmp_path / "corpus"


def run(capsys, *words):
    """Exit status, standard output and standard error."""
    status = 0
    try:
        main([str(word) for word in words])
    except SystemExit as ended:
        status = int(ended.code or 0)
    shown = capsys.readouterr()
    return status, shown.out, shown.err


def read_back(form, folder):
    """The samples as the other library reads them, in a process that does not see this repository."""
    script = ROOT / "tests/support/read_exports.py"
    quiet = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "PYTHONSAFEPATH": "1"}
    done = subprocess.run(
        [sys.executable, str(script), form, str(folder)],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, **quiet},
        timeout=120,
    )
    if f"No module named '{LIBRARIES[form]}'" in done.stderr:
        pytest.skip(f"{LIBRARIES[form]} is not installed (the extra `dev` has it)")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("form", LIBRARIES)
def test_the_other_library_reads_the_same(form, corpus, tmp_path, capsys):
    pytest.importorskip("lance") if form == "lance" else None
    folder = tmp_path / "out" / form
    status, out, _ = run(
        capsys,
        *("export-corpus", "--corpus", corpus, "--format", form, "-o", folder, "--meshes", "--biometric", "--shard", 3),
    )
    assert status == 0
    words = " ".join(out.split())
    assert "exported 8 faces of 3 people" in words
    assert "not exported: 6 faces" in words
    assert all(f"{reason} 2" in words for reason in ("licence_no_derivatives", "consent_refused", "licence_not_stated"))

    store = open_store(corpus)
    snapshot = Catalog(store).open()
    faces = {row["face_id"]: row for row in snapshot.table("faces").to_pylist()}
    vectors = {row["face_id"]: row["vector"] for row in snapshot.table("embeddings").to_pylist()}
    samples = read_back(form, folder)
    assert Counter(sample["identity_id"] for sample in samples) == ALLOWED
    for sample in samples:
        face = faces[sample["face_id"]]
        for image in ("crop", "matte"):
            assert sample[image] == hashlib.sha256(read_blob(store, face[image])).hexdigest()
        assert sample["split"] == PEOPLE[sample["identity_id"]][0]
        assert sample["licence"] == {"va": "CC-BY-4.0", "vb": "CC0-1.0"}[sample["video_id"]]
        assert sample["consent"] == {"va": "given", "vb": "not stated"}[sample["video_id"]]
        for column in ("landmarks5", "mesh468", "yaw_deg", "pitch_deg", "x1", "sharpness", "frame_index"):
            assert sample[column] == pytest.approx(face[column]), column
        assert sample["embedding"] == vectors[sample["face_id"]]
    if form == "webdataset":
        assert Counter(sample["shard"] for sample in samples) == {
            "train-00000": 3,
            "train-00001": 3,
            "val-00000": 2,
        }


def test_an_export_names_neither_paths_nor_embeddings(corpus, tmp_path, capsys):
    folder = tmp_path / "out"
    assert run(capsys, "export-corpus", "--corpus", corpus, "--format", "hf", "-o", folder, "--unclear")[0] == 0
    assert pq.read_schema(folder / "data/train-00000.parquet").names.count("embedding") == 0
    assert len(pq.read_table(folder / "data/test-00000.parquet")) == 2, "of the file with no licence"
    written = b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
    assert b"jane-doe" not in written and str(tmp_path).encode() not in written


def test_the_digest_list_finds_a_withdrawn_video_and_the_corpus_knows_of_the_export(corpus, tmp_path, capsys):
    folder = tmp_path / "out"
    run(capsys, "export-corpus", "--corpus", corpus, "--format", "webdataset", "-o", folder)
    record = json.loads((folder / "export.json").read_text())
    for file in record["files"]:
        data = (folder / file["path"]).read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (file["bytes"], file["sha256"])
    listed = pq.read_table(folder / "digests.parquet").to_pylist()
    assert {row["file"] for row in listed if row["video"] == token("va")} == {"train-00000.tar"}
    runs = Catalog(open_store(corpus)).open().table("runs").to_pylist()
    assert [(r["run_id"], r["kind"], r["snapshot"]) for r in runs] == [(record["run_id"], "export", "v0001")]
    status, out, _ = run(capsys, "takedown", "--corpus", corpus, "--video", "va", "--yes")
    assert status == 0 and record["run_id"] in out
    _, again, _ = run(capsys, "export-corpus", "--corpus", corpus, "--format", "webdataset", "-o", tmp_path / "later")
    assert "exported 4 faces of 2 people" in " ".join(again.split()), "what is withdrawn is not exported again"


def test_the_same_snapshot_gives_the_same_shards(corpus, tmp_path, capsys):
    for name in "ab":
        run(capsys, "export-corpus", "--corpus", corpus, "--format", "webdataset", "-o", tmp_path / name)
    first, second = ({path.name: path.read_bytes() for path in (tmp_path / name).glob("*.tar")} for name in "ab")
    assert first == second and first


def test_a_folder_with_files_is_refused_and_a_lost_image_leaves_nothing(corpus, tmp_path, capsys):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("kept")
    status, _, err = run(capsys, "export-corpus", "--corpus", corpus, "--format", "hf", "-o", tmp_path / "full")
    assert status != 0 and "is there already" in err and (tmp_path / "full" / "mine.txt").read_text() == "kept"
    (corpus / "blobs/all.blobs").write_bytes(b"short")
    before = sorted(path.name for path in tmp_path.iterdir())
    status, _, err = run(capsys, "export-corpus", "--corpus", corpus, "--format", "hf", "-o", tmp_path / "new")
    assert status != 0 and "of an image's" in err
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_nothing_may_be_exported(corpus, tmp_path, capsys):
    run(capsys, "takedown", "--corpus", corpus, "--video", "va", "--video", "vb", "--yes")
    status, _, err = run(capsys, "export-corpus", "--corpus", corpus, "--format", "hf", "-o", tmp_path / "new")
    assert status != 0 and "may be exported" in err and not (tmp_path / "new").exists()


def test_a_killed_export_leaves_no_folder_and_the_next_one_is_whole(corpus, tmp_path):
    script = (
        "import sys, time; from pipelines.sharing import export_snapshot as e; "
        "e._write_record = lambda *a: (print('written', flush=True), time.sleep(60)); "
        "from flows.cli import main; main(sys.argv[1:])"
    )
    words = ["export-corpus", "--corpus", str(corpus), "--format", "webdataset", "-o", str(tmp_path / "new")]
    process = subprocess.Popen([sys.executable, "-c", script, *words], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline().strip() == "written"
    process.send_signal(signal.SIGKILL)
    process.wait()
    time.sleep(0.1)
    assert not (tmp_path / "new").exists() and (tmp_path / ".new.partial").is_dir()
    done = subprocess.run([sys.executable, "-m", "flows.cli", *words], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "new" / "export.json").exists()
    assert not [path.name for path in tmp_path.iterdir() if path.name.startswith(".new")]
