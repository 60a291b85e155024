"""The locks pin every dependency with the hash of each of its files, and nothing else is installed."""

from __future__ import annotations

import hashlib
import importlib.util
import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[2]
LOCKS = ("requirements.lock", "requirements.torch.lock", "requirements.cuda.lock")
ENTRY = re.compile(r"([a-z0-9][a-z0-9.-]*)==(\S+)( ; [^\\]+?)?( \\\n    --hash=sha256:[0-9a-f]{64})+")


def load_splitter():
    spec = importlib.util.spec_from_file_location("split_lock", ROOT / "infra/split_lock.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SPLITTER = load_splitter()


@pytest.mark.parametrize("lock", LOCKS)
def test_every_entry_is_one_version_with_hashes(lock):
    text = (ROOT / lock).read_text()
    entries = SPLITTER.read_entries(text)
    assert entries and "\n".join(entries) + "\n" == text
    assert [entry for entry in entries if not ENTRY.fullmatch(entry)] == []


def test_every_dependency_of_the_project_is_locked_at_a_version_that_it_allows():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    locked: dict[str, set[str]] = {}
    for lock in LOCKS:
        for entry in SPLITTER.read_entries((ROOT / lock).read_text()):
            name, version, *_ = ENTRY.fullmatch(entry).groups()
            locked.setdefault(str(canonicalize_name(name)), set()).add(version)
    wanted = [Requirement(line) for line in project["dependencies"] + project["optional-dependencies"]["dev"]]
    unmet = {
        str(need)
        for need in wanted
        if not any(need.specifier.contains(Version(v), True) for v in locked.get(str(canonicalize_name(need.name)), ()))
    }
    assert unmet == set() and "opencv-python" not in locked


def test_torch_s_lock_accepts_every_build_of_its_version_and_no_other(tmp_path):
    cpu, cuda, old = (hashlib.sha256(name).hexdigest() for name in (b"cpu", b"cuda", b"old"))
    (tmp_path / "torch-2.0.0+cpu-cp311.whl").write_bytes(b"cpu")
    (tmp_path / "torch-1.9.0+cpu-cp311.whl").write_bytes(b"another version")
    entry = f"torch==2.0.0 \\\n    --hash=sha256:{cuda}"
    before = [f"torch==2.0.0 \\\n    --hash=sha256:{old}", f"torch==1.9.0 \\\n    --hash=sha256:{'0' * 64}"]
    merged = SPLITTER.with_all_builds(entry, before, str(tmp_path))
    assert merged == " \\\n    ".join(["torch==2.0.0", *(f"--hash=sha256:{h}" for h in sorted((cpu, cuda, old)))])


def test_nothing_is_installed_without_its_hash():
    script = (ROOT / "infra/install.sh").read_text()
    installs = [line for line in script.splitlines() if re.match(r"\s*(pip )?install ", line)]
    assert len(installs) == 4
    assert [line for line in installs if "--require-hashes" not in line] == [
        "install --no-deps --no-build-isolation -e .   # built with the locked setuptools"
    ]
