"""``ffavatar convert`` on Ray, as a flow: published, resumed after a kill to the same digest, its splits obeyed."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from flows.cli import main
from infra.storage import open_store
from mfhq.catalog import Catalog, read_blob
from pipelines.media.image_codec import decode_image

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def converted(ava256_source, tmp_path_factory, settings, ray_session, prefect_server):
    """The corpus of the studio's captures, and what the flow said."""
    from flows.convert import convert

    corpus = tmp_path_factory.mktemp("converted") / "corpus"
    done = convert(
        dataset="ava256", source=str(ava256_source), corpus=str(corpus), overrides=["size=64"], home=str(settings.home)
    )
    return corpus, done


@pytest.mark.ray
def test_a_snapshot_with_every_view(converted):
    corpus, done = converted
    store = open_store(corpus)
    snapshot = Catalog(store).open()
    assert snapshot.version == done["snapshot"] and not done["failed"]
    assert [row["reason"] for row in done["absent"]] == ["frame_absent", "frame_absent"]
    rows = snapshot.query(
        "SELECT v.segment, v.split, v.status, v.reason, v.image, c.world_to_camera FROM views v JOIN cameras c "
        "USING (capture_id, camera_id) JOIN identities i USING (identity_id) ORDER BY v.view_id"
    ).to_pylist()
    assert len(rows) == 24 and {row["split"] for row in rows if row["segment"] == "EXP_free_face"} == {"val"}
    first = next(row for row in rows if row["status"] == "ok")
    assert decode_image(read_blob(store, first["image"])).shape == (64, 64, 3)
    counts = snapshot.query("SELECT dataset, n_cameras, n_frames FROM captures").to_pylist()
    assert counts == [{"dataset": "ava256", "n_cameras": 4, "n_frames": 3}] * 2
    runs = snapshot.query("SELECT kind, snapshot FROM runs").to_pylist()
    assert runs == [{"kind": "convert", "snapshot": "v0001"}]
    assert snapshot.query("SELECT count(*) AS n FROM attempts WHERE step = 'convert_ava256'").to_pylist() == [{"n": 8}]


@pytest.mark.ray
@pytest.mark.soak  # the engine's and NeRSemble's kills are in every run
def test_killed_with_signal_9_and_called_again_gives_the_same_digest(converted, ava256_source, tmp_path, settings):
    from flows.convert import convert

    script = ROOT / "tests/support/interrupted_conversion.py"
    command = [sys.executable, str(script), "ava256", str(ava256_source), str(tmp_path), "3", '{"size": 64}']
    killed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert killed.returncode == -9, killed.stderr[-2000:]
    store = open_store(tmp_path)
    assert sum(path.endswith(".json") and "step.json" not in path for path in store.list("steps")) == 2
    arguments = {"dataset": "ava256", "source": str(ava256_source), "corpus": str(tmp_path), "overrides": ["size=64"]}
    done = convert(**arguments, home=str(settings.home))
    assert done["digest"] == converted[1]["digest"] and done["rows"] == converted[1]["rows"]
    tried = Catalog(store).open().query("SELECT run_id, count(*) AS n FROM attempts GROUP BY 1 ORDER BY 2")
    assert [row["n"] for row in tried.to_pylist()] == [3, 6], "two kept, one lost in the kill, and six to do"
    again = convert(**arguments, home=str(settings.home))
    assert again["snapshot"] == done["snapshot"], "nothing new: no new snapshot"


def test_training_leaves_held_out_segments_to_validation(converted):
    from ffavatar_model.training import recipe
    from flows.training.stage_data import open_datasets

    store = open_store(converted[0])
    snapshot = Catalog(store).open()
    trained, held = open_datasets(recipe("multiview", "tiny"), store, snapshot, "")
    segment = {row["view_id"]: row["segment"] for row in snapshot.table("views").to_pylist()}
    assert {segment[row["id"]] for _, rows in trained.people for row in rows} == {"EXP_neutral_peak", "EXP_smile"}
    assert {segment[row["id"]] for _, rows in held.people for row in rows} == {"EXP_free_face"}


def run(capsys, *words):
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    return int(ended.value.code or 0), capsys.readouterr()


@pytest.mark.ray
def test_the_command_names_what_failed_and_ends_with_1(
    ava256_source, tmp_path, capsys, monkeypatch, settings, ray_session, prefect_server
):
    monkeypatch.setenv("FFAVATAR_HOME", str(settings.home))
    capture = sorted(ava256_source.glob("*--*"))[0]
    shutil.copytree(capture, tmp_path / "source" / capture.name)
    broken = tmp_path / "source" / capture.name / "decoder/image/cam400942.zip"
    broken.write_bytes(broken.read_bytes()[:1000])
    words = ("convert", "ava256", tmp_path / "source", "--corpus", tmp_path / "corpus", "--size", 32, "--every", 1)
    status, shown = run(capsys, *words, "--set", "held_out_segments=[]")
    assert status == 1 and "400942/000000" in shown.out and "archive_damaged" in shown.out
    snapshot = Catalog(open_store(tmp_path / "corpus")).open()
    rows = snapshot.query("SELECT DISTINCT split, camera_id FROM views ORDER BY 2")
    assert rows.to_pylist() == [{"split": "train", "camera_id": c} for c in ("400940", "400941", "400943")]


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("nowhere",), "nowhere: no such folder"),
        ((".",), "no Ava-256 capture in it"),
        ((".", "--set", "sizes=3"), "sizes: no such setting"),
        ((".", "--set", "crop=face"), "allowed are 'head', 'full'"),
    ],
)
def test_a_wrong_call_is_one_line_and_status_2(words, named, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("FFAVATAR_HOME", str(tmp_path / "home"))
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    status, shown = run(capsys, "convert", "ava256", *words, "--corpus", tmp_path / "corpus")
    lines = shown.err.strip().splitlines()
    assert status == 2 and len(lines) == 1 and named in lines[0]
    assert not (tmp_path / "corpus").exists()
