"""The architecture's document: who may import whom, where the big libraries may stand, and how files look.

Every import of the source tree counts, also those inside functions and under ``if TYPE_CHECKING``.
"""

from __future__ import annotations

import ast
import statistics
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
OURS = ("mfhq", "ava256", "nersemble", "pipelines", "ffavatar_model", "flows", "infra")

MAY_IMPORT: dict[str, tuple[str, ...]] = {
    # the longest prefix of a module's name that stands here says which of our modules it may import (prefixes, too)
    "mfhq": ("mfhq",),
    "ava256": ("ava256", "mfhq.schema"),
    "nersemble": ("nersemble", "mfhq.schema"),
    "pipelines": ("pipelines", "mfhq", "ava256", "nersemble"),
    "pipelines.studio": ("pipelines", "mfhq", "ava256", "nersemble", "ffavatar_model.head"),
    "ffavatar_model": ("ffavatar_model",),
    "ffavatar_model.data": ("ffavatar_model", "mfhq"),
    "infra": ("infra", "mfhq.ids", "mfhq.store"),
    "flows": OURS,
}
"""``mfhq.store`` is the protocol that ``infra/storage.py`` fulfils, and its error."""

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

MEDIAN_LINES, P90_LINES = 150, 350


@dataclass(frozen=True)
class Import:
    """One import statement: who, what, where."""

    module: str
    imported: str
    path: Path
    line: int
    at_top: bool
    """It runs when the module is imported."""

    @property
    def where(self) -> str:
        return f"{self.path.relative_to(ROOT)}:{self.line}"


def _begins(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(prefix + ".")


def _module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    parts = parts[1:] if parts[0] == "datasets" else parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def _sources() -> tuple[Path, ...]:
    """Every Python file of ours outside of tests."""
    folders = [ROOT / name for name in ("datasets", "pipelines", "ffavatar_model", "flows", "infra")]
    return tuple(sorted(path for folder in folders for path in folder.rglob("*.py")))


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def _imports_of(path: Path) -> Iterator[Import]:
    module = _module_name(path)
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]

    def visit(node: ast.AST, at_top: bool) -> Iterator[Import]:
        if isinstance(node, ast.Import):
            for name in node.names:
                yield Import(module, name.name, path, node.lineno, at_top)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, *([base] if base else [])])
            for name in node.names:
                whole = f"{base}.{name.name}"
                yield Import(module, whole if _is_module(whole) else base, path, node.lineno, at_top)
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for child in node.body:
                yield from visit(child, False)
            for child in node.orelse:
                yield from visit(child, at_top)
        else:
            inside = at_top and not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
            for child in ast.iter_child_nodes(node):
                yield from visit(child, inside)

    yield from visit(_tree(path), True)


@cache
def _our_modules() -> frozenset[str]:
    return frozenset(_module_name(path) for path in _sources())


def _is_module(name: str) -> bool:
    return name in _our_modules()


@cache
def _imports() -> tuple[Import, ...]:
    return tuple(found for path in _sources() for found in _imports_of(path))


def _allowed(module: str) -> tuple[str, ...]:
    rules = [prefix for prefix in MAY_IMPORT if _begins(module, prefix)]
    return MAY_IMPORT[max(rules, key=len)]


def _report(title: str, lines: list[str]) -> None:
    if lines:
        pytest.fail(title + "\n  " + "\n  ".join(lines), pytrace=False)


def test_the_reader_of_imports_sees_every_kind() -> None:
    assert len(_sources()) > 40 and len(_imports()) > 200
    edges = {(found.module, found.imported, found.at_top) for found in _imports()}
    assert ("pipelines.engine.step", "mfhq.ids", True) in edges
    assert ("flows.cli.operate_commands", "flows.cli.doctor", False) in edges, "imports inside functions are seen"


def test_imports_go_the_allowed_ways() -> None:
    wrong = [
        f"{found.where}: {found.module} imports {found.imported}; it may import {', '.join(_allowed(found.module))}"
        for found in _imports()
        if any(_begins(found.imported, name) for name in OURS)
        and not any(_begins(found.imported, prefix) for prefix in _allowed(found.module))
    ]
    _report("imports against the architecture:", wrong)


def test_nobody_imports_flows() -> None:
    wrong = [
        f"{found.where}: {found.module} imports {found.imported}; only {NOBODY_IMPORTS} itself may"
        for found in _imports()
        if _begins(found.imported, NOBODY_IMPORTS) and not _begins(found.module, NOBODY_IMPORTS)
    ]
    _report("flows is imported:", wrong)


def test_libraries_stay_where_they_belong() -> None:
    wrong = [
        f"{found.where}: {found.module} imports {found.imported}; only modules that begin with {' or '.join(homes)} may"
        for found in _imports()
        for library, homes in ONLY_IN.items()
        if _begins(found.imported, library) and not found.module.startswith(homes)
    ]
    _report("a library is out of its place:", wrong)


def test_the_folder_datasets_is_not_imported() -> None:
    wrong = [
        f"{found.where}: imports {found.imported}; write mfhq, ava256 or nersemble: datasets/ is a source root"
        for found in _imports()
        if _begins(found.imported, "datasets")
    ]
    _report("datasets/ taken for a package:", wrong)
    assert not (ROOT / "datasets/__init__.py").exists(), "datasets/__init__.py would shadow the library of that name"
    assert not list((ROOT / "tests").rglob("__init__.py")), "packages below tests/ would shadow those that they mirror"


def test_torch_is_lazy_in_pipelines() -> None:
    """Also through our own modules: importing all of ``pipelines`` works with torch blocked."""
    wrong = [
        f"{found.where}: {found.module} imports {found.imported} at its top; import it inside the function that loads"
        for found in _imports()
        if found.at_top and _begins(found.module, "pipelines") and _begins(found.imported, LAZY_IN_PIPELINES)
    ]
    _report("torch at a module's top:", wrong)
    modules = sorted(name for name in _our_modules() if _begins(name, "pipelines"))
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


def test_files_stay_small() -> None:
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in _sources()}
    written = sorted(count for path, count in lengths.items() if count > 0)
    longest = sorted(lengths, key=lengths.__getitem__, reverse=True)[:5]
    hint = ", ".join(f"{path.relative_to(ROOT)} {lengths[path]}" for path in longest)
    assert statistics.median(written) <= MEDIAN_LINES, f"the longest files: {hint}"
    assert statistics.quantiles(written, n=10)[-1] <= P90_LINES, f"the longest files: {hint}"


def _public_functions(path: Path) -> Iterator[tuple[ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef, str]]:
    """Public functions and classes of a file, and public methods of its public classes, with their names."""
    for node in _tree(path).body:
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)) or node.name.startswith("_"):
            continue
        yield node, node.name
        if isinstance(node, ast.ClassDef):
            for member in node.body:
                if isinstance(member, (ast.FunctionDef, ast.AsyncFunctionDef)) and not member.name.startswith("_"):
                    yield member, f"{node.name}.{member.name}"


@cache
def _documented_methods() -> frozenset[str]:
    """Names of methods that some class of ours documents: another class that has them fulfils that one."""
    return frozenset(
        name.rpartition(".")[2]
        for path in _sources()
        for node, name in _public_functions(path)
        if "." in name and ast.get_docstring(node)
    )


def test_public_names_have_docstrings_and_types() -> None:
    wrong = []
    known = _documented_methods() | {"forward"}
    for path in _sources():
        if not ast.get_docstring(_tree(path)) and _tree(path).body:
            wrong.append(f"{path.relative_to(ROOT)}:1: the module has no docstring")
        for node, name in _public_functions(path):
            where = f"{path.relative_to(ROOT)}:{node.lineno}"
            inherited = "." in name and name.rpartition(".")[2] in known
            if not ast.get_docstring(node) and not inherited and not _is_overload(node):
                wrong.append(f"{where}: {name} has no docstring")
            if isinstance(node, ast.ClassDef):
                continue
            arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            bare = [a.arg for a in arguments if a.annotation is None and a.arg not in ("self", "cls")]
            if bare or node.returns is None:
                wrong.append(f"{where}: {name} lacks annotations: {', '.join(bare) or 'what it returns'}")
    _report("public names without docstring or types:", wrong)


def _is_overload(node: ast.AST) -> bool:
    decorators = getattr(node, "decorator_list", [])
    return any(ast.unparse(decorator).endswith(("overload", ".setter")) for decorator in decorators)
