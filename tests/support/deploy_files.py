"""Reads the files of ``infra/deploy`` and lists what is wrong with them, by schemas of Kubernetes and rules of ours."""

from __future__ import annotations

import os
from collections.abc import Iterator
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import yaml

DEPLOY = Path(__file__).parents[2] / "infra" / "deploy"
KUBERNETES = DEPLOY / "kubernetes"
VERSION = "1.37"


def read_documents() -> list[dict[str, Any]]:
    """Every resource that the kustomization names, with its namespace and image tags applied."""
    kustomization = yaml.safe_load((KUBERNETES / "kustomization.yaml").read_text())
    tags = {image["name"]: image["newTag"] for image in kustomization["images"]}
    documents = []
    for name in kustomization["resources"]:
        for document in yaml.safe_load_all((KUBERNETES / name).read_text()):
            for container in (c for pod in pods_of(document) for c in pod["spec"]["containers"]):
                if container["image"] in tags:
                    container["image"] += f":{tags[container['image']]}"
            documents.append(document)
    return documents


def pods_of(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The pod templates of a resource."""
    spec = document.get("spec", {})
    groups = [spec.get("headGroupSpec"), *spec.get("workerGroupSpecs", []), spec]
    yield from (group["template"] for group in groups if group and "template" in group)


def problems(documents: list[dict[str, Any]]) -> list[str]:
    """Return what is wrong: unknown or missing fields, and breaches of our rules."""
    import kubernetes_validate

    found = []
    for document in documents:
        name = f"{document.get('kind')} {document.get('metadata', {}).get('name')}"
        checked = [document] if "ray.io" not in str(document.get("apiVersion")) else []
        checked += [{"apiVersion": "v1", "kind": "Pod", **_named(pod)} for pod in pods_of(document)]
        for resource in checked:
            try:
                kubernetes_validate.validate(resource, VERSION, strict=True)
            except Exception as error:
                found.append(f"{name}: {type(error).__name__} {' '.join(str(error).split())[:200]}")
        if not checked or "ray.io" in str(document.get("apiVersion")):
            found += [f"{name}: {line}" for line in ray_problems(document)]
        found += [f"{name}: {line}" for pod in pods_of(document) for line in _rules(pod["spec"])]
    return found


def _named(pod: dict[str, Any]) -> dict[str, Any]:
    return {"metadata": {"name": "pod", **pod.get("metadata", {})}, "spec": pod["spec"]}


def _rules(spec: dict[str, Any]) -> Iterator[str]:
    if not spec.get("securityContext", {}).get("runAsNonRoot"):
        yield "runs as root"
    for container in spec["containers"]:
        image = container["image"].rpartition("/")[2]
        if ":" not in image or image.endswith(":latest"):
            yield f"image {container['image']} has no tag"
        resources = container.get("resources", {})
        yield from (
            f"no {kind} of {name}"
            for kind in ("requests", "limits")
            for name in ("cpu", "memory")
            if name not in resources.get(kind, {})
        )
        if not container.get("securityContext", {}).get("readOnlyRootFilesystem"):
            yield "the root file system can be written"
        for variable in container.get("env", []):
            if "value" in variable and any(w in variable["name"] for w in ("PASSWORD", "SECRET", "TOKEN", "KEY")):
                yield f"{variable['name']} is written down"
        mounted = {mount["name"] for mount in container.get("volumeMounts", [])}
        yield from (f"no volume {name}" for name in mounted - {v["name"] for v in spec.get("volumes", [])})


def ray_problems(document: dict[str, Any]) -> list[str]:
    """Return what KubeRay's own definition says of a resource; nothing if FFAVATAR_KUBERAY names no folder."""
    schema = ray_schema(str(document["kind"]), str(document["apiVersion"]).partition("/")[2])
    if schema is None:
        return []
    import jsonschema

    return [error.message[:200] for error in jsonschema.Draft7Validator(schema).iter_errors(document)]


@cache
def ray_schema(kind: str, version: str) -> dict[str, Any] | None:
    """The closed JSON schema of a kind of KubeRay's; None where its definition is not at hand."""
    folder = os.environ.get("FFAVATAR_KUBERAY", "")
    path = Path(folder) / f"ray.io_{kind.lower()}s.yaml"
    if not folder or not path.is_file():
        return None
    versions = yaml.load(path.read_text(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))["spec"]["versions"]
    (schema,) = [v["schema"]["openAPIV3Schema"] for v in versions if v["name"] == version]
    schema["properties"]["metadata"] = {"type": "object"}
    return dict(_closed(deepcopy(schema)))


def _closed(schema: Any) -> Any:
    """A schema whose objects take no unknown field, and where what has a default may be left out."""
    if isinstance(schema, list):
        return [_closed(inner) for inner in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: _closed(inner) for key, inner in schema.items()}
    if schema.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string"]}
    properties = schema.get("properties")
    if isinstance(properties, dict) and schema.get("type") == "object":
        if "additionalProperties" not in schema and not schema.get("x-kubernetes-preserve-unknown-fields"):
            closed["additionalProperties"] = False
        if required := schema.get("required"):
            closed["required"] = [n for n in required if "default" not in properties.get(n, {})]
    return closed
