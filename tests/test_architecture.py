"""The architecture's document: who may import whom, where the big libraries may stand, and what the folders hold.

Every import of the source tree counts, also those inside functions and under ``if TYPE_CHECKING``.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import textwrap
from collections import Counter, defaultdict
from functools import cache
from pathlib import Path

import pytest

from tests.support.source_tree import OURS, ROOT, begins, imports, module_name, our_modules, sources, tree_of

MAY_IMPORT: dict[str, tuple[str, ...]] = {
    # the longest prefix of a module's name that stands here says which of our modules it may import (prefixes, too)
    "mfhq": ("mfhq", "infra.storage"),  # mfhq/__init__.py alone: connect() opens a corpus by its URI
    "ava256": ("ava256", "mfhq.schema"),
    "nersemble": ("nersemble", "mfhq.schema"),
    "pipelines": ("pipelines", "mfhq", "ava256", "nersemble"),
    "pipelines.studio": ("pipelines", "mfhq", "ava256", "nersemble", "ffavatar_model.head"),
    "ffavatar_model": ("ffavatar_model",),
    "ffavatar_model.data": ("ffavatar_model", "mfhq"),
    "infra": ("infra", "mfhq.ids", "mfhq.masking", "mfhq.paths", "mfhq.store"),
    "flows": OURS,
}
"""``mfhq.store`` is the protocol that ``infra/storage.py`` fulfils, and its error; ``mfhq.masking`` masks secrets,
``mfhq.paths`` says where biometric data lie."""

NOBODY_IMPORTS = "flows"

ONLY_IN: dict[str, tuple[str, ...]] = {
    "prefect": ("flows",),
    "mlflow": ("infra.tracking",),
    "ray": ("pipelines.engine.ray_data", "infra.ray_"),
    "s3fs": ("infra.storage",),
}
"""A library, and the beginnings of the names of the modules that may import it."""

LAZY_IN_PIPELINES = "torch"
"""In ``pipelines`` it is imported inside functions only (a step's ``load``): workers that need none start light."""

BLOCKED_AT_START = ("ray", "prefect", "mlflow", "duckdb")
"""``import flows.cli`` reaches none of these."""


def _allowed(module: str) -> tuple[str, ...]:
    rules = [prefix for prefix in MAY_IMPORT if begins(module, prefix)]
    return MAY_IMPORT[max(rules, key=len)]


def _report(title: str, lines: list[str]) -> None:
    if lines:
        pytest.fail(title + "\n  " + "\n  ".join(lines), pytrace=False)


def test_the_reader_of_imports_sees_every_kind() -> None:
    assert len(sources()) > 40 and len(imports()) > 200
    edges = {(found.module, found.imported, found.at_top) for found in imports()}
    assert ("pipelines.engine.step", "mfhq.ids", True) in edges
    assert ("flows.cli.operate_commands", "flows.cli.doctor", False) in edges, "imports inside functions are seen"


def test_imports_go_the_allowed_ways() -> None:
    wrong = [
        f"{found.where}: {found.module} imports {found.imported}; it may import {', '.join(_allowed(found.module))}"
        for found in imports()
        if any(begins(found.imported, name) for name in OURS)
        and not any(begins(found.imported, prefix) for prefix in _allowed(found.module))
    ]
    _report("imports against the architecture:", wrong)


def test_the_corpus_takes_its_store_from_outside_but_for_connect() -> None:
    wrong = [
        f"{found.where}: {found.module} imports {found.imported}; a store is passed in"
        for found in imports()
        if begins(found.module, "mfhq") and begins(found.imported, "infra") and (found.module != "mfhq" or found.at_top)
    ]
    _report("a store that is opened in mfhq:", wrong)


def test_nobody_imports_flows() -> None:
    wrong = [
        f"{found.where}: {found.module} imports {found.imported}; only {NOBODY_IMPORTS} itself may"
        for found in imports()
        if begins(found.imported, NOBODY_IMPORTS) and not begins(found.module, NOBODY_IMPORTS)
    ]
    _report("flows is imported:", wrong)


def test_libraries_stay_where_they_belong() -> None:
    wrong = [
        f"{found.where}: {found.module} imports {found.imported}; only modules that begin with {' or '.join(homes)} may"
        for found in imports()
        for library, homes in ONLY_IN.items()
        if begins(found.imported, library) and not found.module.startswith(homes)
    ]
    _report("a library is out of its place:", wrong)


def test_the_folder_datasets_is_not_imported() -> None:
    wrong = [
        f"{found.where}: imports {found.imported}; write mfhq, ava256 or nersemble: datasets/ is a source root"
        for found in imports()
        if begins(found.imported, "datasets")
    ]
    _report("datasets/ taken for a package:", wrong)
    assert not (ROOT / "datasets/__init__.py").exists(), "datasets/__init__.py would shadow the library of that name"
    assert not list((ROOT / "tests").rglob("__init__.py")), "packages below tests/ would shadow those that they mirror"


def test_torch_is_lazy_in_pipelines() -> None:
    """Also through our own modules: importing all of ``pipelines`` works with torch blocked."""
    wrong = [
        f"{found.where}: {found.module} imports {found.imported} at its top; import it inside the function that loads"
        for found in imports()
        if found.at_top and begins(found.module, "pipelines") and begins(found.imported, LAZY_IN_PIPELINES)
    ]
    _report("torch at a module's top:", wrong)
    modules = sorted(name for name in our_modules() if begins(name, "pipelines"))
    done = _import_with_blocked((LAZY_IN_PIPELINES,), modules)
    assert done.returncode == 0, done.stderr


def test_the_command_line_starts_without_the_heavy_libraries() -> None:
    done = _import_with_blocked(BLOCKED_AT_START, ["flows.cli"])
    assert done.returncode == 0, f"import flows.cli reaches a library that it must not:\n{done.stderr}"


def test_every_command_s_help_starts_without_the_heavy_libraries() -> None:
    run = """
    import click
    from flows.cli import cli

    def walk(command, path):
        with click.Context(command, info_name=path) as context:
            assert command.get_help(context)
            for name in command.list_commands(context) if isinstance(command, click.Group) else ():
                walk(command.get_command(context, name), f"{path} {name}")

    walk(cli, "ffavatar")
    """
    done = _import_with_blocked(BLOCKED_AT_START, [], run)
    assert done.returncode == 0, done.stderr


def test_the_blocker_blocks() -> None:
    done = _import_with_blocked(("colorsys",), ["colorsys"])
    assert done.returncode == 1 and "colorsys is blocked" in done.stderr


def _import_with_blocked(
    blocked: tuple[str, ...], modules: list[str], then: str = ""
) -> subprocess.CompletedProcess[str]:
    """A fresh Python that imports modules while a finder refuses some libraries."""
    code = textwrap.dedent(
        f"""
        import importlib, sys

        class Blocker:
            def find_spec(self, name, path=None, target=None):
                if name.partition(".")[0] in {blocked!r}:
                    raise ImportError(name + " is blocked: it must not be imported here")

        sys.meta_path.insert(0, Blocker())
        for name in {modules!r}:
            importlib.import_module(name)
        """
    ) + textwrap.dedent(then)
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=240)


MOST_FILES = 24
"""In a folder of the source tree, ``__init__.py`` counted."""
MOST_IN_MODEL_ROOT = 10


def test_no_folder_is_crowded() -> None:
    counts = Counter(path.parent.relative_to(ROOT) for path in sources())
    crowded = [f"{folder}: {n} files" for folder, n in sorted(counts.items()) if n > MOST_FILES]
    _report(f"folders of more than {MOST_FILES} files:", crowded)
    assert counts[Path("ffavatar_model")] <= MOST_IN_MODEL_ROOT


def test_the_root_of_flows_holds_flows_alone() -> None:
    without = []
    for path in sorted((ROOT / "flows").glob("*.py")):
        decorated = [n for n in ast.walk(tree_of(path)) if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef))]
        flows = [n for n in decorated if any(ast.unparse(d).startswith("flow(") for d in n.decorator_list)]
        if path.name != "__init__.py" and not flows:
            without.append(str(path.relative_to(ROOT)))
    _report("modules without a Prefect flow; their place is a folder below flows/:", without)


def _room(module: str) -> str:
    """The folder of a module; a module that lies in the root of a top-level package is a room of its own."""
    package = module if f"{module}.__init__" in _packages() else module.rpartition(".")[0]
    return package if "." in package else module


@cache
def _packages() -> frozenset[str]:
    return frozenset(f"{module_name(path)}.__init__" for path in sources() if path.name == "__init__.py")


def _cycles(edges: dict[str, set[str]]) -> list[str]:
    """Each cycle that a depth-first walk meets, as ``a -> b -> a``."""
    found, done = [], set()

    def walk(node: str, way: list[str]) -> None:
        if node in way:
            found.append(" -> ".join([*way[way.index(node) :], node]))
        elif node not in done:
            for following in sorted(edges.get(node, ())):
                walk(following, [*way, node])
            done.add(node)

    for start in sorted(edges):
        walk(start, [])
    return found


def test_the_walk_finds_cycles() -> None:
    assert _cycles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}}) == ["b -> c -> b"]
    assert _cycles({"a": {"b", "c"}, "b": {"c"}}) == []


def test_no_import_cycle_between_files_or_folders() -> None:
    """Imports inside functions count, too: a cycle that is put off is a cycle."""
    files: dict[str, set[str]] = defaultdict(set)
    rooms: dict[str, set[str]] = defaultdict(set)
    for found in imports():
        if found.imported in our_modules() and found.imported != found.module:
            files[found.module].add(found.imported)
            if _room(found.module) != _room(found.imported):
                rooms[_room(found.module)].add(_room(found.imported))
    _report("import cycles between files:", _cycles(files))
    _report("import cycles between folders:", _cycles(rooms))


def test_every_module_has_a_name_of_its_own() -> None:
    """``__init__`` and a package's ``config`` aside."""
    where: dict[str, list[str]] = defaultdict(list)
    for path in sources():
        where[path.stem].append(str(path.relative_to(ROOT)))
    twice = [", ".join(paths) for name, paths in where.items() if len(paths) > 1 and name not in ("__init__", "config")]
    _report("modules of one name:", twice)


def test_every_class_has_a_name_of_its_own() -> None:
    """A configuration is nested in the class that it configures, and is known by that name: ``Encoder.Config``."""
    where: dict[str, list[str]] = defaultdict(list)

    def visit(node: ast.AST, path: Path, outer: str) -> None:
        for child in ast.iter_child_nodes(node):
            name = outer
            if isinstance(child, ast.ClassDef):
                name = f"{outer}.{child.name}" if outer else child.name
                where[name].append(f"{path.relative_to(ROOT)}:{child.lineno}")
            visit(child, path, name)

    for path in sources():
        visit(tree_of(path), path, "")
    _report("classes of one name:", [f"{name}: {', '.join(at)}" for name, at in where.items() if len(at) > 1])


def test_the_drawing_is_true() -> None:
    """Every path that docs/architecture.md names is there, and every folder of the source tree is named."""
    drawing = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    paths = re.findall(r"`((?:datasets|pipelines|ffavatar_model|flows|infra)/[\w/]+\.py)`", drawing)
    assert len(paths) > 30
    _report(
        "paths that docs/architecture.md names and that are not there:", [p for p in paths if not (ROOT / p).is_file()]
    )
    folders = {path.parent.name for path in sources()} - {"pretrained"}
    _report("folders that docs/architecture.md leaves out:", sorted(f for f in folders if f"{f}/" not in drawing))
