"""Flows as a Prefect worker runs them: deployed, started by Prefect's API, in processes that nobody prepared."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from infra.settings import QUIET, Settings
from tests.support.made_up_videos import moving_square

POOL = "tested"
PATIENCE_S = 150


@pytest.fixture(scope="module")
def deployed(prefect_server: None) -> str:
    """URL of the server's API, at which every flow is deployed."""
    from prefect.settings import PREFECT_API_URL

    from flows.cli.deployments import deploy_command

    deploy_command(POOL, None, None)
    return str(PREFECT_API_URL.value())


@pytest.fixture(scope="module")
def worker(deployed: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A process worker in an empty folder, with an environment of its own; yields its home of runs and logs."""
    from pipelines.faces.weight_cache import cache_dir

    folder = tmp_path_factory.mktemp("worker")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT", "RAY", "MLFLOW"))}
    environment = kept | {
        "PREFECT_API_URL": deployed,
        "PREFECT_HOME": str(folder / "prefect"),
        "PREFECT_WORKER_QUERY_SECONDS": "1",
        "FFAVATAR_HOME": str(folder / "home"),
        "FFAVATAR_CACHE": str(cache_dir()),
    }
    command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", POOL, "--name", "w", "--limit", "2"]
    with (folder / "worker.log").open("w") as log:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT)
        yield folder / "home"
        process.terminate()
        process.wait(60)


def start(deployed: str, flow: str, **parameters: Any) -> str:
    """Start a deployment by Prefect's API; the id of the run."""
    (found,) = httpx.post(f"{deployed}/deployments/filter", json={"flows": {"name": {"any_": [flow]}}}).json()
    reply = httpx.post(f"{deployed}/deployments/{found['id']}/create_flow_run", json={"parameters": parameters})
    assert reply.status_code == 201, reply.text
    return str(reply.json()["id"])


def wait(deployed: str, run: str, until: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """The run as Prefect's API tells it, as soon as a condition on it holds."""
    ends = time.monotonic() + PATIENCE_S
    while True:
        state = httpx.get(f"{deployed}/flow_runs/{run}").json()
        if until(state):
            return dict(state)
        assert time.monotonic() < ends, f"{state['state']}\n" + "\n".join(lines(deployed, run))
        time.sleep(0.5)


def lines(deployed: str, run: str) -> list[str]:
    asked = {"logs": {"flow_run_id": {"any_": [run]}}, "sort": "TIMESTAMP_ASC"}
    return [row["message"] for row in httpx.post(f"{deployed}/logs/filter", json=asked).json()]


def artifacts(deployed: str, run: str) -> dict[str, Any]:
    asked = {"artifacts": {"flow_run_id": {"any_": [run]}}}
    return {row["key"]: row["data"] for row in httpx.post(f"{deployed}/artifacts/filter", json=asked).json()}


def ended(run: dict[str, Any]) -> bool:
    return run["state_type"] in ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")


def test_every_flow_is_a_deployment_that_says_its_parameters(deployed: str) -> None:
    from flows.cli.deployments import DEPLOYED, deploy_command

    found = httpx.post(f"{deployed}/deployments/filter", json={}).json()
    assert len(found) == len(DEPLOYED) == 9
    for row in found:
        assert row["work_pool_name"] == POOL and row["tags"] and row["entrypoint"].startswith("flows.")
        assert not any(schedule["active"] for schedule in row["schedules"])
        properties = row["parameter_openapi_schema"]["properties"]
        assert all(shown["description"] for shown in properties.values()), row["entrypoint"]
        assert row["job_variables"] == {"env": QUIET}, "addresses and keys come from the worker"
    (mine,) = [row for row in found if row["entrypoint"] == "flows.mine.mine"]
    httpx.patch(
        f"{deployed}/deployments/{mine['id']}/schedules/{mine['schedules'][0]['id']}", json={"active": True}
    ).raise_for_status()
    deploy_command(POOL, "s3://bucket/videos", "s3://bucket/corpus")
    again = httpx.get(f"{deployed}/deployments/{mine['id']}").json()
    assert again["parameters"] == {"source": "s3://bucket/videos", "corpus": "s3://bucket/corpus"}
    assert [schedule["active"] for schedule in again["schedules"]] == [True], "an operator's choice stays"
    httpx.patch(
        f"{deployed}/deployments/{mine['id']}/schedules/{again['schedules'][0]['id']}", json={"active": False}
    ).raise_for_status()


@pytest.mark.parametrize(
    "wrong",
    [{"preset": "huge"}, {"corpus": "s3://user:password@host/corpus"}, {"decode_limit_s": 0}, {"source": 3}],
    ids=["preset", "password", "limit", "type"],
)
def test_the_server_refuses_wrong_parameters_before_it_stores_them(deployed: str, wrong: dict[str, Any]) -> None:
    (found,) = httpx.post(f"{deployed}/deployments/filter", json={"flows": {"name": {"any_": ["mine"]}}}).json()
    right = {"source": "videos", "corpus": "corpus"}
    reply = httpx.post(f"{deployed}/deployments/{found['id']}/create_flow_run", json={"parameters": right | wrong})
    assert reply.status_code in (409, 422), reply.text


def test_a_worker_mines_and_a_second_run_waits_for_the_corpus(
    deployed: str, worker: Path, tmp_path: Path, settings: Settings
) -> None:
    from mlflow.tracking import MlflowClient

    from infra.storage import open_store
    from mfhq.catalog import Catalog
    from pipelines.media.video_writer import write_video

    videos, corpus = tmp_path / "videos", str(tmp_path / "corpus")
    videos.mkdir()
    write_video(videos / "whole.mp4", moving_square(), 25)
    (videos / "text.mp4").write_text("this is no video\n" * 50)
    first = start(deployed, "mine", source=str(videos), corpus=corpus)
    wait(deployed, first, lambda run: any("mining 2 files" in line for line in lines(deployed, first)) or ended(run))
    second = start(deployed, "publish", corpus=corpus)
    mined = wait(deployed, first, ended)
    assert mined["state_type"] == "COMPLETED", lines(deployed, first)
    assert mined["name"] == f"mine {videos}"
    snapshot = Catalog(open_store(corpus)).open()
    assert snapshot.query("SELECT status, reason FROM videos ORDER BY uri").to_pylist()
    shown = artifacts(deployed, first)
    assert "| probe | 2 | 2 |" in str(shown) or "progress" in str(shown)
    assert corpus in shown["run-mine"] and snapshot.version in shown["run-mine"]
    published = wait(deployed, second, ended)
    assert published["state_type"] == "COMPLETED", lines(deployed, second)
    assert any("waiting for the run that changes" in line for line in lines(deployed, second))
    assert published["start_time"] < mined["end_time"], "it had begun, and waited"
    runs = MlflowClient(tracking_uri=f"sqlite:///{worker / 'mlflow.db'}").search_runs(["1"])
    assert {run.info.status for run in runs} == {"FINISHED"}


@pytest.mark.soak
def test_a_cancelled_run_ends_its_work_and_leaves_the_corpus_whole(deployed: str, worker: Path, tmp_path: Path) -> None:
    import psutil
    from mlflow.tracking import MlflowClient

    from flows.corpus.verify import verify_command
    from pipelines.media.video_writer import write_video

    videos, corpus = tmp_path / "videos", str(tmp_path / "corpus")
    videos.mkdir()
    for number in range(20):
        write_video(videos / f"{number:02}.mp4", moving_square(60 + number), 25)
    before = {process.pid for process in psutil.process_iter()}
    run = start(deployed, "mine", source=str(videos), corpus=corpus)
    wait(deployed, run, lambda found: any("mining 20 files" in line for line in lines(deployed, run)) or ended(found))
    time.sleep(3)
    asked = {"state": {"type": "CANCELLING", "name": "Cancelling"}}
    httpx.post(f"{deployed}/flow_runs/{run}/set_state", json=asked).raise_for_status()
    began = time.monotonic()
    wait(deployed, run, lambda found: found["state_type"] == "CANCELLED")  # for seconds it may be Crashed before
    assert time.monotonic() - began < 60
    ours = [
        p for p in psutil.process_iter(["environ"]) if p.pid not in before and str(worker) in str(p.info["environ"])
    ]
    _, left = psutil.wait_procs(ours, timeout=30)
    assert not left, [process.cmdline() for process in left]
    client = MlflowClient(tracking_uri=f"sqlite:///{worker / 'mlflow.db'}")
    (newest, *_) = client.search_runs(["1"], order_by=["attributes.start_time DESC"])
    assert newest.info.status == "KILLED"
    assert verify_command(corpus, deep=True) == 0
    again = wait(deployed, start(deployed, "mine", source=str(videos), corpus=corpus), ended)
    assert again["state_type"] == "COMPLETED", "the corpus is free again, and the same call goes on"
