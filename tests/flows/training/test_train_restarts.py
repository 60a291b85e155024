"""A worker of a real Ray Train job is killed: the run ends as the undisturbed one, also on fewer workers."""

from __future__ import annotations

import json
import re
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from mlflow.tracking import MlflowClient
from safetensors.torch import load_file

from flows.cli import main
from infra import ray_train
from infra.settings import Settings

pytestmark = [pytest.mark.ray, pytest.mark.soak, pytest.mark.timeout(900)]
STEPS, EVERY = 12, 3
SETTINGS = {
    "steps": STEPS,
    "batch": 2,
    "checkpoint_every": EVERY,
    "log_every": 1,
    "model.image_size": 32,
    "data.drivers": 2,
    "optimizer.warmup": 1,
}


def words(corpus: str, out: Path, *more: str) -> list[str]:
    changed = [word for name, value in SETTINGS.items() for word in ("--set", f"{name}={value}")]
    return ["train", "multiview", "--corpus", corpus, "-o", str(out), *changed, *more]


def curve(settings: Settings, run_id: str, name: str) -> tuple[dict[int, float], Counter[int]]:
    """What was said last of each step, and how often each was taken."""
    said = MlflowClient(tracking_uri=settings.tracking_uri).get_metric_history(run_id, name)
    said = sorted((m for m in said if m.step), key=lambda m: m.timestamp)
    return {m.step: m.value for m in said}, Counter(m.step for m in said)


@contextmanager
def a_worker_dies(settings: Settings) -> Iterator[list[int]]:
    """SIGKILL for one of a job's workers once a new job has kept its first checkpoint; yields the processes killed."""
    storage, killed, ended = Path(settings.train_storage), [], threading.Event()
    before = set(storage.glob("multiview-*"))

    def watch() -> None:
        while not ended.wait(0.02):
            new = [path for path in storage.glob("multiview-*") if path not in before]
            records = [record for folder in new for record in folder.glob("checkpoint_manager_snapshot.json")]
            if any("checkpoint_" in record.read_text() for record in records):
                mine = psutil.Process().children(recursive=True)
                workers = [p for p in mine if "RayTrainWorker" in " ".join(p.cmdline())]
                workers[-1].kill()
                killed.append(workers[-1].pid)
                return

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield killed
    finally:
        ended.set()
        thread.join()


def test_a_killed_worker_costs_the_steps_since_the_last_checkpoint(
    studio_corpus, settings, ray_session, prefect_server, tmp_path, monkeypatch, capsys
) -> None:
    monkeypatch.setenv("FFAVATAR_HOME", str(settings.home))
    main(words(studio_corpus, tmp_path / "whole", "--workers", "2"))
    with a_worker_dies(settings) as killed:
        main(words(studio_corpus, tmp_path / "killed", "--workers", "2"))
    assert len(killed) == 1 and not psutil.pid_exists(killed[0])
    with a_worker_dies(settings) as killed, pytest.raises(SystemExit) as ended:
        main(words(studio_corpus, tmp_path / "less", "--workers", "2", "--max-failures", "0"))
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert len(killed) == 1 and ended.value.code == 1 and not (tmp_path / "less").exists()
    (interrupted,) = re.findall(r"--resume (\w+)", said)
    with pytest.raises(SystemExit) as wrong:
        main([*words(studio_corpus, tmp_path / "less", "--resume", interrupted), "--set", "seed=5"])
    assert wrong.value.code == 2 and "train.seed=0, this call says 5" in capsys.readouterr().err
    main(words(studio_corpus, tmp_path / "less", "--workers", "1", "--resume", interrupted))

    runs = {n: json.loads((tmp_path / n / "run.json").read_text())["run_id"] for n in ("whole", "killed", "less")}
    assert runs["less"] == interrupted
    whole, once = curve(settings, runs["whole"], "gradient_norm")
    assert set(once) == set(range(1, STEPS + 1)) and set(once.values()) == {1}
    for name in ("killed", "less"):
        found, taken = curve(settings, runs[name], "gradient_norm")
        again = [step for step, n in taken.items() if n > 1]
        assert set(found) == set(whole) and max(taken.values()) <= 2, (name, taken)
        assert min(again, default=EVERY + 1) > EVERY, f"{name}: {again} were taken again"
        assert found == pytest.approx(whole, rel=1e-4 if name == "killed" else 1e-3), name
    kept = {name: load_file(tmp_path / name / "model.safetensors") for name in runs}
    for name, tolerance in (("killed", 1e-6), ("less", 1e-2)):  # Adam makes a whole step of the sign of a tiny gradient
        apart = {
            key: float((kept[name][key] - value).norm() / value.norm().clamp_min(1e-6))
            for key, value in kept["whole"].items()
        }
        worst = max(apart, key=apart.__getitem__)
        assert apart[worst] <= tolerance, f"{name}: {worst} is {apart[worst]} of its length apart"
    loss, _ = curve(settings, runs["killed"], "loss")
    assert loss == pytest.approx(curve(settings, runs["whole"], "loss")[0], rel=1e-4)


def test_a_loss_that_is_not_a_number_is_not_tried_again(
    studio_corpus, settings, ray_session, prefect_server, tmp_path, monkeypatch, capsys
) -> None:
    """Steps of 1e30 break the weights: the job stops at once, whatever is left of its failures, and names the batch."""
    monkeypatch.setenv("FFAVATAR_HOME", str(settings.home))
    wild = ("--set", "optimizer.lr=1e30", "--set", "optimizer.mean_head_lr=1e30", "--workers", "2")
    with pytest.raises(SystemExit) as ended:
        main(words(studio_corpus, tmp_path / "wild", *wild, "--max-failures", "3"))
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert ended.value.code == 1 and not (tmp_path / "wild").exists()
    assert re.search(r"FloatingPointError: step \d+, rank \d: loss nan.*the batch: \w+", said), said
    assert "--resume" not in said, "it would end the same way"
    client = MlflowClient(tracking_uri=settings.tracking_uri)
    (experiment,) = (e.experiment_id for e in client.search_experiments() if e.name != "Default")
    newest = client.search_runs([experiment], max_results=1)[0]
    assert newest.info.status == "FAILED"
    taken = curve(settings, newest.info.run_id, "gradient_norm")[1]
    assert taken and set(taken.values()) == {1}, f"steps were taken again: {taken}"


def test_workers_without_a_place_end_in_one_line(settings: Settings, ray_session: None, tmp_path: Path) -> None:
    many = (psutil.cpu_count() or 1) + 1
    with pytest.raises(RuntimeError, match=r"training job crowd failed: .*resources") as error:
        ray_train.run_training_job(
            print, {}, name="crowd", storage=str(tmp_path), workers=many, max_failures=0, timeout_s=2
        )
    assert "\n" not in str(error.value)
