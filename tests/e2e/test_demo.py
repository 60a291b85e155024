"""The whole loop, as a newcomer runs it: the demo, then the README's commands, on one Ray and one Prefect server."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import psutil
import pyarrow.parquet as pq
import pytest

from ffavatar_model.io.ply import read_ply
from flows.cli import cli
from flows.cli.demo import demo_curriculum
from flows.cli.demo_cast import choose_cast
from flows.curriculum import GateError, curriculum
from infra.storage import open_store
from mfhq.catalog import Catalog, Snapshot
from mfhq.schema import TABLES
from pipelines.samples.make import read_truth

ROOT = Path(__file__).parents[2]
STAGES = ("pretrain", "multiview", "personalize")
SECONDS = 16.0


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory, ray_session: None, prefect_server: None) -> Path:
    """A folder, with a space in its name, in which ``ffavatar demo`` has run."""
    folder = tmp_path_factory.mktemp("new user")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        cli.main(["demo", "--seconds", str(SECONDS)], standalone_mode=False)
    return folder / "demo"


@pytest.fixture(scope="module")
def snapshot(demo: Path) -> Snapshot:
    return Catalog(open_store(demo / "corpus")).open()


def test_every_person_of_the_samples_is_one_identity(demo: Path, snapshot: Snapshot) -> None:
    truth = {clip.file: clip.person for clip in read_truth(demo / "samples")}
    rows = snapshot.query(
        "SELECT regexp_extract(uri, '[^/]*$') AS file, identity_id FROM videos JOIN tracks USING (video_id) "
        "JOIN assignments USING (track_id)"
    ).to_pylist()
    found = {(truth[row["file"]], row["identity_id"]) for row in rows}
    assert {person for person, _ in found} == set(truth.values())
    assert len(found) == len({person for person, _ in found}) == len({identity for _, identity in found})


def test_every_view_is_there_and_answers(snapshot: Snapshot) -> None:
    for name, schema in TABLES.items():
        assert snapshot.query(f"SELECT * FROM {name} LIMIT 1", biometric=True).column_names == schema.names, name
    assert snapshot.query("SELECT count(*) AS n FROM attempts WHERE status = 'ok'")["n"][0].as_py() > 0
    kinds = set(snapshot.query("SELECT kind FROM runs")["kind"].to_pylist())
    assert {"mine", "cluster", "publish"} <= kinds


def test_each_stage_lowers_the_loss_on_pictures_that_it_was_not_trained_on(demo: Path) -> None:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{demo / 'runs' / 'mlflow.db'}")
    runs = {stage: json.loads((demo / "checkpoints" / stage / "run.json").read_text())["run_id"] for stage in STAGES}
    for stage, run_id in runs.items():
        run = client.get_run(run_id)
        assert run.info.status == "FINISHED"
        assert run.data.metrics["end/loss"] < run.data.metrics["start/loss"], stage
        assert run.data.tags["snapshot_digest"] and run.data.tags["git_revision"]
        assert run.inputs.dataset_inputs[0].dataset.digest == run.data.tags["snapshot_digest"][:36]
        assert run.data.metrics["system/cpu_utilization_percentage"] > 0
    parents = {stage: client.get_run(run_id).data.tags.get("parent_run_id", "") for stage, run_id in runs.items()}
    assert parents == {"pretrain": "", "multiview": runs["pretrain"], "personalize": runs["multiview"]}


def test_a_run_says_which_people_and_which_files_it_read(demo: Path, snapshot: Snapshot, tmp_path: Path) -> None:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{demo / 'runs' / 'mlflow.db'}")
    people = set(snapshot.table("identities")["identity_id"].to_pylist())
    for stage in ("pretrain", "personalize"):
        run_id = json.loads((demo / "checkpoints" / stage / "run.json").read_text())["run_id"]
        rows = pq.read_table(client.download_artifacts(run_id, "data/seen.parquet", str(tmp_path))).to_pylist()
        who = {part: {row["identity_id"] for row in rows if row["part"] == part} for part in ("train", "held_out")}
        assert who["train"] and who["train"] <= people
        assert {Path(row["source"]).parent.name for row in rows} == {"samples"}
        assert (who["train"] == who["held_out"]) == (stage == "personalize"), "people are held out, or pictures"


def test_the_video_shows_the_driver_and_an_avatar(demo: Path) -> None:
    with av.open(str(demo / "avatar.mp4")) as video:
        frames = [frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)]
    assert len(frames) > 20
    height, width = frames[0].shape[:2]
    assert width == 2 * height
    avatar = np.stack([frame[:, height:] for frame in frames]).astype(float)
    assert (avatar[0] < 200).mean() > 0.1, "a head is drawn on the white background"
    assert np.abs(np.diff(avatar, axis=0)).mean() > 0.05, "and it moves"


def test_avatar_report_and_ply_are_whole(demo: Path) -> None:
    means, _, scales, opacities, _ = read_ply(demo / "avatar.ply")
    assert len(means) > 1000 and bool((scales > 0).all()) and bool((opacities <= 1).all())
    page = (demo / "report" / "report.html").read_text()
    assert page.count("data:image/") >= 8 and "Funnel" in page


def test_no_embedding_is_in_mlflow(demo: Path, snapshot: Snapshot) -> None:
    """Neither as text nor as raw floats, in the database, the artifacts or the logs."""
    vector = snapshot.table("embeddings")["vector"][0].as_py()[:8]
    wanted = [np.array(vector, kind).tobytes() for kind in ("<f4", "<f8")]
    wanted += [re.sub(r"0+$", "", f"{abs(value):.5f}")[:6].encode() for value in vector]
    files = [path for path in (demo / "runs").rglob("*") if path.is_file() and "prefect" not in path.parts]
    assert any(path.name == "mlflow.db" for path in files)
    for path in files:
        data = path.read_bytes()
        if path.suffix != ".png" and "train" not in path.parts and path.suffix != ".safetensors":
            assert sum(text in data for text in wanted[2:]) < 4, path
        assert not any(raw in data for raw in wanted[:2]), path


def test_a_curriculum_goes_on_where_it_stopped_and_stops_where_a_stage_does_not_help(demo: Path) -> None:
    cast = choose_cast((demo / "corpus").as_uri(), demo / "samples")
    asked = demo_curriculum(demo, (demo / "corpus").as_uri(), cast.identity, SECONDS)
    before = {stage: json.loads((demo / "checkpoints" / stage / "run.json").read_text())["run_id"] for stage in STAGES}
    again = curriculum(asked, home=str(demo / "runs"))
    assert {stage: ended["run_id"] for stage, ended in again.items()} == before, "what has passed is not done again"
    unhelpful = replace(asked, gain=50.0, overrides=asked.overrides | {"personalize": ["steps=1"]})
    with pytest.raises(GateError, match=r"personalize: held-out PSNR went from [\d.]+ to [\d.]+ dB, a gain of 50"):
        curriculum(unhelpful, home=str(demo / "runs"))
    after = {stage: json.loads((demo / "checkpoints" / stage / "run.json").read_text())["run_id"] for stage in STAGES}
    assert [stage for stage in STAGES if after[stage] != before[stage]] == ["personalize"]
    crowded = replace(unhelpful, workers=(psutil.cpu_count() or 1) + 1, timeout_s=2, max_failures=0)
    with pytest.raises(RuntimeError, match="`ffavatar curriculum` with the same settings again: personalize") as no:
        curriculum(crowded, home=str(demo / "runs"))
    assert "--resume" not in str(no.value) and "\n" not in str(no.value), "that is an option of `train` alone"


def commands() -> list[str]:
    """Every command of the README that says what a reader does with the demo's results; ``tests/flows/cli/test_cli.py``
    runs ``bench``."""
    blocks = re.findall(r"```sh\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    lines = [line for block in blocks for line in block.splitlines()]
    return [line for line in lines if line.startswith("ffavatar ") and not line.startswith("ffavatar bench ")]


@pytest.mark.parametrize("command", commands())
def test_the_readmes_commands_run(command: str, demo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(demo.parent)
    monkeypatch.setenv("FFAVATAR_HOME", str(demo / "runs"))
    cli.main(shlex.split(command)[1:], standalone_mode=False)


def test_mining_again_does_nothing_twice(demo: Path, snapshot: Snapshot) -> None:
    """After the README's ``mine`` of the same folder: no item was worked on twice, and nothing new was published."""
    newest = Catalog(open_store(demo / "corpus")).open()
    assert newest.digest == snapshot.digest and newest.version == snapshot.version
    twice = newest.query("SELECT item_id, step FROM attempts GROUP BY ALL HAVING count(*) > 1")
    assert len(twice) == 0
