"""Deployment files: schemas of Kubernetes and KubeRay, hadolint, rules of ours; each of a set of errors is found."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.deploy_files import DEPLOY, KUBERNETES, problems, ray_schema, read_documents

pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not installed (the extra `dev` has it)")

Change = Callable[[dict[str, dict[str, Any]]], Any]


def test_every_resource_is_valid() -> None:
    assert problems(read_documents()) == []
    listed = yaml.safe_load((KUBERNETES / "kustomization.yaml").read_text())["resources"]
    assert {*listed, "kustomization.yaml"} == {path.name for path in KUBERNETES.iterdir()}


def worker(found: dict[str, dict[str, Any]]) -> dict[str, Any]:
    return found["Deployment prefect-worker"]["spec"]["template"]["spec"]["containers"][0]


def group(found: dict[str, dict[str, Any]], number: int) -> dict[str, Any]:
    return found["RayCluster ffavatar"]["spec"]["workerGroupSpecs"][number]


def pod(found: dict[str, dict[str, Any]]) -> dict[str, Any]:
    return group(found, 0)["template"]["spec"]


MUTATIONS: dict[str, Change] = {
    "wrong field of a container": lambda f: worker(f).update(imagePullPolice="Always"),
    "wrong type": lambda f: f["Deployment prefect-worker"]["spec"].update(replicas="one"),
    "no selector": lambda f: f["Deployment prefect-worker"]["spec"].pop("selector"),
    "unknown kind": lambda f: f["ConfigMap ffavatar"].update(kind="ConfigMaps"),
    "number in a ConfigMap": lambda f: f["ConfigMap ffavatar"]["data"].update(N=256),
    "wrong field of a policy": lambda f: f["NetworkPolicy ray"]["spec"].update(podselector={}),
    "port without a number": lambda f: f["NetworkPolicy ray"]["spec"]["egress"][1]["ports"].append("53"),
    "image without tag": lambda f: worker(f).update(image="ffavatar"),
    "newest image": lambda f: worker(f).update(image="ffavatar:latest"),
    "no limit": lambda f: worker(f)["resources"].pop("limits"),
    "no request of memory": lambda f: pod(f)["containers"][0]["resources"]["requests"].pop("memory"),
    "root": lambda f: pod(f)["securityContext"].pop("runAsNonRoot"),
    "writable root": lambda f: worker(f)["securityContext"].update(readOnlyRootFilesystem=False),
    "password": lambda f: worker(f)["env"].append({"name": "DB_PASSWORD", "value": "x"}),
    "volume that is not there": lambda f: pod(f)["volumes"].pop(0),
    "wrong field of a pod of Ray": lambda f: pod(f).update(nodeselector={}),
    "probe without a command": lambda f: worker(f)["livenessProbe"].update(exec={"comand": ["ray"]}),
}
RAY_MUTATIONS: dict[str, Change] = {
    "wrong field of a cluster": lambda f: f["RayCluster ffavatar"]["spec"].update(enableAutoscaling=True),
    "group without a name": lambda f: group(f, 1).pop("groupName"),
    "text for a number": lambda f: group(f, 1).update(maxReplicas="16"),
    "number for a parameter of ray start": lambda f: f["RayCluster ffavatar"]["spec"]["headGroupSpec"][
        "rayStartParams"
    ].update({"num-cpus": 0}),
    "unknown upscaling": lambda f: f["RayCluster ffavatar"]["spec"]["autoscalerOptions"].update(upscalingMode="Fast"),
}


def changed(change: Change) -> list[str]:
    documents = read_documents()
    change({f"{d['kind']} {d['metadata']['name']}": d for d in documents})
    return problems(documents)


@pytest.mark.parametrize("name", MUTATIONS)
def test_an_error_is_found(name: str) -> None:
    assert changed(MUTATIONS[name])


@pytest.mark.parametrize("name", RAY_MUTATIONS)
def test_an_error_of_a_ray_cluster_is_found(name: str) -> None:
    if ray_schema("RayCluster", "v1") is None:
        pytest.skip("FFAVATAR_KUBERAY does not name a folder with KubeRay's definitions (ray.io_rayclusters.yaml)")
    assert changed(RAY_MUTATIONS[name])


def test_compose_runs_our_images_without_rights_and_opens_local_ports_alone() -> None:
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    assert set(services) == {"postgres", "prefect", "mlflow", "worker"}
    for name, service in services.items():
        assert ":" in service["image"] and not service["image"].endswith(":latest"), name
        assert service["mem_limit"] and all(port.startswith("127.0.0.1:") for port in service.get("ports", [])), name
        assert not any("PASSWORD" in key or "KEY" in key for key in service.get("environment", {})), name
        if name != "postgres":
            assert service["read_only"] and service["user"].startswith("10001") and service["cap_drop"] == ["ALL"], name
        for other in service.get("depends_on", {}):
            assert "healthcheck" in services[other], f"{name} waits for the health of {other}"


def hadolint(path: Path) -> subprocess.CompletedProcess[str]:
    program = shutil.which("hadolint", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    if not program:
        pytest.skip("no hadolint on this machine (the extra `dev` has it)")
    return subprocess.run([program, str(path)], capture_output=True, text=True)


def test_hadolint_finds_nothing_and_finds_errors(tmp_path: Path) -> None:
    text = (DEPLOY / "Containerfile").read_text()
    done = hadolint(DEPLOY / "Containerfile")
    assert done.returncode == 0, done.stdout
    for number, (right, wrong) in enumerate(
        {"slim-bookworm AS cpu\n": "\n", "USER 10001": "USER root", "COPY . .": "ADD . ."}.items()
    ):
        assert right in text
        path = tmp_path / f"Containerfile.{number}"
        path.write_text(text.replace(":3.11.14-" + right, wrong) if "slim" in right else text.replace(right, wrong))
        assert hadolint(path).returncode, wrong
