"""Command ``ffavatar sbom``: the bill of materials of this installation (CycloneDX), and a list of licences."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator
from importlib.metadata import Distribution
from pathlib import Path
from typing import Any

from cyclonedx.factory.license import LicenseFactory
from cyclonedx.model import Property
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from infra.console import out, print_table
from pipelines.faces.weight_files import describe_weights

PROJECT = "ffavatar"

UNKNOWN = "not stated"
"""Licence of a package whose metadata name none."""


def sbom_command(file: Path | None, licences: bool) -> None:
    """Run ``ffavatar sbom``.

    Args:
        file: File to write; None prints the document.
        licences: True to print a table of packages, weights and their licences instead.
    """
    if licences:
        rows = [(p.name, p.version, licence_of(p)) for p in installed_packages()]
        weights = [(str(row["name"]), "weights", str(row["licence"])) for row in describe_weights()]
        print_table("licences", ("name", "version", "licence"), sorted(rows) + weights)
        return
    document = JsonV1Dot6(build_bom()).output_as_string(indent=2)
    if file is None:
        out.print(document, markup=False, highlight=False)
    else:
        file.write_text(document + "\n")


def build_bom() -> Bom:
    """Return the bill of materials of this environment: installed packages, what needs what, and weight files."""
    packages = {str(canonicalize_name(package.name)): package for package in installed_packages()}
    components = {name: _component(package) for name, package in packages.items()}
    bom = Bom(components=[component for name, component in components.items() if name != PROJECT])
    bom.metadata.component = components[PROJECT]
    for name, package in packages.items():
        bom.register_dependency(components[name], [components[n] for n in _required(package) if n in components])
    for row in describe_weights():
        bom.components.add(
            Component(
                name=str(row["name"]),
                type=ComponentType.MACHINE_LEARNING_MODEL,
                bom_ref=f"weights/{row['name']}",
                licenses=[LicenseFactory().make_from_string(str(row["licence"]))],
                properties=[Property(name="ffavatar:from", value=str(row["package"]))],
            )
        )
    return bom


def installed_packages() -> list[Distribution]:
    """Return the packages of this environment, each once, by name."""
    found = {str(canonicalize_name(package.name)): package for package in importlib.metadata.distributions()}
    return [found[name] for name in sorted(found)]


def licence_of(package: Distribution) -> str:
    """Return the licence that a package's metadata state: an SPDX expression, classifiers, or the field's first line.

    Args:
        package: An installed package.
    """
    metadata: Any = package.metadata
    expression = metadata.get("License-Expression")
    if expression:
        return str(expression)
    stated = [c.rsplit("::", 1)[1].strip() for c in metadata.get_all("Classifier") or [] if c.startswith("License ::")]
    stated = [name for name in stated if name != "OSI Approved"]
    field = str(metadata.get("License") or "").strip()
    return " or ".join(stated) or (field.splitlines()[0][:80] if field else UNKNOWN)


def _component(package: Distribution) -> Component:
    name = str(canonicalize_name(package.name))
    licence = licence_of(package)
    return Component(
        name=name,
        version=package.version,
        type=ComponentType.APPLICATION if name == PROJECT else ComponentType.LIBRARY,
        bom_ref=f"{name}=={package.version}",
        purl=PackageURL("pypi", None, name, package.version),
        licenses=[] if licence == UNKNOWN else [LicenseFactory().make_from_string(licence)],
    )


def _required(package: Distribution) -> Iterator[str]:
    """Yield the names of the packages that a package needs here, without its extras."""
    for line in package.requires or ():
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            yield str(canonicalize_name(requirement.name))
