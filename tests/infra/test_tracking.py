"""Runs in MLflow's embedded database: what is logged, parents, failures."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from infra.settings import Settings, load_settings
from infra.tracking import TrackedRun, config_hash, file_digest, tracked_run


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return load_settings(tmp_path_factory.mktemp("a home"))


def test_a_run_holds_config_parent_snapshot_and_model(home: Settings, tmp_path: Path) -> None:
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(b"weights")
    with tracked_run(home, "pretrain", "first", {"a": {"b": 1}}) as first:
        TrackedRun(home.tracking_uri, first.run_id).log_metrics({"loss": 0.5}, step=3)  # as rank 0 does, by id
        first.log_bytes(b"picture", "pictures/000003.png")
    with tracked_run(home, "multiview", "second", {"a": {"b": 2}}, first.run_id) as second:
        second.log_snapshot("file:///corpus", "v0002", "ab" * 32, "training")
        version = second.register_model("ffavatar-multiview", weights.parent)
    client = MlflowClient(tracking_uri=home.tracking_uri)
    one, two = client.get_run(first.run_id), client.get_run(second.run_id)
    assert one.info.status == two.info.status == "FINISHED"
    assert one.data.params["a.b"] == "1" and one.data.metrics["loss"] == 0.5
    assert one.data.tags["config_hash"] == config_hash({"a": {"b": 1}}) != two.data.tags["config_hash"]
    assert two.data.tags["mlflow.parentRunId"] == first.run_id
    assert two.inputs.dataset_inputs[0].dataset.digest == ("ab" * 32)[:36]
    assert [item.path for item in client.list_artifacts(first.run_id, "pictures")] == ["pictures/000003.png"]
    registered = client.get_model_version_by_alias("ffavatar-multiview", "newest")
    assert str(registered.version) == version and registered.run_id == second.run_id


def test_the_champion_is_the_version_with_the_best_score(home: Settings, tmp_path: Path) -> None:
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(b"weights")
    client = MlflowClient(tracking_uri=home.tracking_uri)
    champions = []
    with tracked_run(home, "pretrain", "scored", {}) as run:
        for score in (None, 20.0, 25.5, 21.0, float("nan"), 26.0):
            version = run.register_model("ffavatar-scored", tmp_path, score)
            assert str(client.get_model_version_by_alias("ffavatar-scored", "newest").version) == version
            aliases = client.get_registered_model("ffavatar-scored").aliases
            champions.append(str(aliases.get("champion", "")))
    assert champions == ["", "2", "3", "3", "3", "6"]


def test_metrics_that_a_thread_sends_are_there_after_a_flush_and_cost_a_step_little(home: Settings) -> None:
    with tracked_run(home, "pretrain", "steps", {}) as run:
        run.log_metrics({"loss": 0.0}, step=0, wait=False)  # starts the thread
        began = time.perf_counter()
        for step in range(1, 41):
            run.log_metrics(
                {f"loss/{name}": 1.0 / step for name in range(12)} | {"loss": float(step)}, step, wait=False
            )
        seconds = (time.perf_counter() - began) / 40
        run.flush_metrics()
    history = MlflowClient(tracking_uri=home.tracking_uri).get_metric_history(run.run_id, "loss")
    assert [(m.step, m.value) for m in sorted(history, key=lambda m: m.step)] == [(n, float(n)) for n in range(41)]
    assert seconds < 0.005, f"{1000 * seconds:.1f} ms a step"


def test_a_cancelled_run_is_killed(home: Settings) -> None:
    with pytest.raises(KeyboardInterrupt), tracked_run(home, "mine", "cancelled", {}) as run:
        raise KeyboardInterrupt
    assert MlflowClient(tracking_uri=home.tracking_uri).get_run(run.run_id).info.status == "KILLED"


def test_a_run_that_raises_is_failed_and_says_why(home: Settings) -> None:
    with pytest.raises(FloatingPointError), tracked_run(home, "pretrain", "bad", {}) as run:
        raise FloatingPointError("batch a b")
    found = MlflowClient(tracking_uri=home.tracking_uri).get_run(run.run_id)
    assert found.info.status == "FAILED"
    assert "batch a b" in found.data.tags["error"]


def test_config_hash_does_not_depend_on_order() -> None:
    assert config_hash({"a": 1, "b": {"c": 2, "d": 3}}) == config_hash({"b": {"d": 3, "c": 2}, "a": 1})


def test_file_digest(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"abc")
    assert file_digest(tmp_path / "x") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("FFAVATAR_HOME", "MLFLOW_TRACKING_URI", "RAY_ADDRESS", "FFAVATAR_TRAIN_STORAGE"):
        monkeypatch.delenv(name, raising=False)
    embedded = load_settings(tmp_path)
    assert embedded.tracking_uri == f"sqlite:///{tmp_path.resolve() / 'mlflow.db'}"
    assert embedded.ray_address is None
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")
    monkeypatch.setenv("RAY_ADDRESS", "ray://127.0.0.1:10001")
    monkeypatch.setenv("FFAVATAR_TRAIN_STORAGE", "s3://bucket/train")
    cluster = load_settings(tmp_path)
    assert (cluster.tracking_uri, cluster.ray_address) == ("http://127.0.0.1:5000", "ray://127.0.0.1:10001")
    assert cluster.train_storage == "s3://bucket/train"
