"""Hostile files against every reader for ten minutes, and protections whose removal a test must notice."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.fuzzed_readers import READERS

ROOT = Path(__file__).parents[2]
MINUTES = 10.0
SEED = 18
TREE = ("datasets", "ffavatar_model", "flows", "infra", "pipelines", "tests", "pyproject.toml")

MUTATIONS = {
    "the Host check of the viewer": (
        "infra/local_app.py",
        {'if Headers(scope=scope).getlist("host") not in ([name] for name in self._names):': "if False:"},
        "tests/flows/avatar/test_view.py::test_the_served_page_is_closed_to_other_hosts_and_pages",
    ),
    "the modes of biometric files": (
        "infra/storage.py",
        {"_FILE, _PRIVATE_FILE = 0o666, 0o600": "_FILE, _PRIVATE_FILE = 0o666, 0o666"},
        "tests/infra/test_shown_text.py::test_the_umask_is_obeyed_and_biometric_files_are_for_the_user_alone",
    ),
    "the modes of biometric folders": (
        "infra/settings.py",
        {"PRIVATE_FOLDER = 0o700": "PRIVATE_FOLDER = 0o755"},
        "tests/infra/test_shown_text.py::test_the_umask_is_obeyed_and_biometric_files_are_for_the_user_alone",
    ),
    "persistent_load": (
        "ffavatar_model/head/safe_pickle.py",
        {"def persistent_load(": "def another_name("},
        "tests/ffavatar_model/head/test_safe_pickle.py",
    ),
    "the refusal in persistent_load": (
        "ffavatar_model/head/safe_pickle.py",
        {'raise RefusedPickle("it refers to objects outside of the file")': "return pid"},
        "tests/ffavatar_model/head/test_safe_pickle.py",
    ),
    "the read limit of the zip": (
        "datasets/ava256/archive.py",
        {"if info.file_size > limit:": "if False:", "stream.read(limit + 1)": "stream.read()"},
        "tests/datasets/test_ava256_bad_input.py::test_a_bomb_is_not_unpacked",
    ),
}
"""What is removed: the file, its replacements, and the test that must fail; none of these needs a browser."""


@pytest.mark.soak
@pytest.mark.parametrize("reader", READERS)
def test_no_reader_is_led_astray_by_a_hostile_file(reader: str) -> None:
    """No escape, no hang, no error but the reader's own, and no more memory than the process may have."""
    seconds = MINUTES * 60 / len(READERS)
    command = [sys.executable, "-m", "tests.support.fuzzed_readers", reader, str(seconds), str(SEED)]
    paths = os.pathsep.join([str(ROOT), str(ROOT / "datasets")])
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=500, env=os.environ | {"PYTHONPATH": paths}
    )
    assert done.returncode == 0, done.stderr[-4000:]
    assert json.loads(done.stdout.splitlines()[-1])["inputs"] > 400


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the source tree and the tests."""
    copy = tmp_path_factory.mktemp("tree")
    for name in TREE:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, copy / name)
    return copy


@pytest.mark.soak
@pytest.mark.parametrize("removed", MUTATIONS)
def test_a_protection_that_is_removed_makes_a_test_fail(removed: str, tree: Path) -> None:
    file, replacements, test = MUTATIONS[removed]
    whole = (tree / file).read_text()
    text = whole
    for before, after in replacements.items():
        assert text.count(before) == 1, f"{file}: {before}"
        text = text.replace(before, after)
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", test]
    paths = os.pathsep.join([str(tree), str(tree / "datasets")])
    environment = os.environ | {"PYTHONPATH": paths, "PYTHONDONTWRITEBYTECODE": "1"}
    for content, status in ((whole, 0), (text, 1)):
        (tree / file).write_text(content)
        done = subprocess.run(command, cwd=tree, capture_output=True, text=True, timeout=300, env=environment)
        assert done.returncode == status, done.stdout[-2000:] + done.stderr[-2000:]
        assert " passed" in done.stdout if status == 0 else " failed" in done.stdout
    (tree / file).write_text(whole)
