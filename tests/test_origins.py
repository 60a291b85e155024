"""Nothing of ours shadows, or is shadowed by, another distribution: from the root, under pytest, in a Ray worker."""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

ORIGINS = {
    "ava256": ROOT / "datasets/ava256/__init__.py",
    "mfhq": ROOT / "datasets/mfhq/__init__.py",
    "nersemble": ROOT / "datasets/nersemble/__init__.py",
    "pipelines": ROOT / "pipelines/__init__.py",
    "ffavatar_model": ROOT / "ffavatar_model/__init__.py",
    "flows": ROOT / "flows/__init__.py",
    "infra": ROOT / "infra/__init__.py",
}
"""Every top-level package of ours, and the file that its import must come from."""

_TELL = """
import importlib, json, sys
print(json.dumps({name: importlib.import_module(name).__file__ for name in sys.argv[1:]}))
"""


def _expected() -> dict[str, str]:
    return {name: str(path) for name, path in ORIGINS.items()}


def test_the_table_names_every_package() -> None:
    roots = [ROOT, ROOT / "datasets"]
    outside = {"tests"}
    found = {path.parent.name for root in roots for path in root.glob("*/__init__.py")} - outside
    assert found == set(ORIGINS)


def test_origins_under_pytest() -> None:
    assert {name: importlib.import_module(name).__file__ for name in ORIGINS} == _expected()


@pytest.mark.parametrize("how", [["-c", _TELL], ["-P", "-c", _TELL]], ids=["root on the path", "installed"])
def test_origins_from_the_root(how: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, *how, *ORIGINS], cwd=ROOT, capture_output=True, text=True, timeout=120, check=True
    )
    assert json.loads(done.stdout) == _expected()


def test_origins_under_python_m_pytest(tmp_path: Path) -> None:
    """``python -m pytest`` puts the root first on the path, which ``pytest`` does not."""
    probe = tmp_path / "test_probe.py"
    probe.write_text(
        "import importlib, json\n"
        "def test_tell():\n"
        f"    origins = {{n: importlib.import_module(n).__file__ for n in {list(ORIGINS)!r}}}\n"
        f"    open({str(tmp_path / 'told.json')!r}, 'w').write(json.dumps(origins))\n"
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", str(ROOT / "pyproject.toml")]
    done = subprocess.run([*command, str(probe)], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads((tmp_path / "told.json").read_text()) == _expected()


@pytest.mark.ray
def test_origins_in_a_ray_worker(ray_session: None) -> None:
    import ray

    def tell(names: list[str]) -> dict[str, str | None]:
        return {name: importlib.import_module(name).__file__ for name in names}

    told = ray.get(ray.remote(num_cpus=0)(tell).remote(list(ORIGINS)))
    assert told == _expected()


def test_no_other_distribution_has_our_names() -> None:
    owners = importlib.metadata.packages_distributions()
    for name in ORIGINS:
        assert set(owners.get(name, [])) <= {"ffavatar"}, f"{name} also comes from {owners[name]}"


def test_datasets_is_only_a_folder() -> None:
    """From the root the name is found, as a namespace without code; with the library installed, it is the library."""
    code = "import datasets, json; print(json.dumps([getattr(datasets, '__file__', None), list(datasets.__path__)]))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    file, where = json.loads(done.stdout)
    ours = file is not None and Path(file).is_relative_to(ROOT / "datasets")
    assert not ours, "datasets/__init__.py makes the folder a package"
    if file is None:
        assert [Path(path).resolve() for path in where] == [ROOT / "datasets"]


def test_an_installed_library_wins_over_the_folder(tmp_path: Path) -> None:
    """A package called datasets anywhere on the path is imported, although the root comes first."""
    library = tmp_path / "datasets"
    library.mkdir()
    (library / "__init__.py").write_text("mark = 'the library'\n")
    code = "import datasets, mfhq; print(datasets.mark); print(mfhq.__file__)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        env={"PYTHONPATH": str(tmp_path), "PATH": "/usr/bin:/bin"},
    )
    assert done.stdout.splitlines() == ["the library", str(ORIGINS["mfhq"])], done.stderr


def test_the_installed_command_does_not_see_the_folder() -> None:
    """Without the root on the path (``ffavatar``, ``python -P``) the name is free: libraries that ask get the truth."""
    code = "import importlib.util as u; s = u.find_spec('datasets'); print(s and (s.origin or 'a bare folder'))"
    command = [sys.executable, "-P", "-c", code]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True).stdout.strip()
    assert told != "a bare folder" and not told.startswith(str(ROOT / "datasets"))


def test_libraries_that_ask_for_datasets_work_from_the_root() -> None:
    """From the root ``find_spec("datasets")`` is true for the bare folder.

    transformers' ``is_datasets_available()`` then says yes, wrongly (its ``Trainer`` would look for the library's
    classes; we use none of it). What we use of transformers, MLflow and Ray Data must work all the same.
    """
    code = """
import mlflow.data, mlflow.entities, ray.data, torch
from transformers import Dinov2Config, Dinov2Model
from transformers.utils import is_datasets_available
is_datasets_available()
config = Dinov2Config(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=28, patch_size=14)
tokens = Dinov2Model(config)(torch.zeros(1, 3, 28, 28)).last_hidden_state
assert tokens.shape == (1, 5, 16) and bool(tokens.isfinite().all())
assert callable(mlflow.data.from_numpy) and callable(ray.data.from_items)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
