"""The bill of materials names every installed package with its version and licence, in the format's own words."""

from __future__ import annotations

import importlib.metadata
import json

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from flows.cli.sbom import UNKNOWN, installed_packages, licence_of, sbom_command


def test_the_document_is_valid_and_complete(tmp_path):
    sbom_command(tmp_path / "sbom.json", licences=False)
    text = (tmp_path / "sbom.json").read_text()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    document = json.loads(text)
    versions = {c["name"]: c["version"] for c in document["components"] if c["type"] == "library"}
    for name in ("torch", "decord", "av", "pyarrow", "landlock"):
        assert versions[name] == importlib.metadata.version(name)
    assert len(versions) == len(installed_packages()) - 1 and document["metadata"]["component"]["name"] == "ffavatar"
    needs = {d["ref"].split("==")[0]: d.get("dependsOn", []) for d in document["dependencies"]}
    assert f"decord=={versions['decord']}" in needs["ffavatar"] and any(
        r.startswith("numpy==") for r in needs["decord"]
    )
    assert any(c["type"] == "machine-learning-model" and c["licenses"] for c in document["components"])


def test_licences_are_listed(capsys):
    stated = {package.name.lower(): licence_of(package) for package in installed_packages()}
    assert "Apache" in stated["decord"] and "BSD" in stated["numpy"] and stated["landlock"] == "MIT License"
    assert sum(licence == UNKNOWN for licence in stated.values()) < 0.05 * len(stated)
    sbom_command(None, licences=True)
    shown = capsys.readouterr().out
    assert "decord" in shown and "sface" in shown
