"""Tests of the source's style: sizes of files and functions, docstrings, formatting."""

from __future__ import annotations

import ast
import statistics
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.support.source_tree import ROOT, sources, tree_of

MEDIAN_LINES, P90_LINES = 150, 350


def _report(title: str, lines: list[str]) -> None:
    if lines:
        pytest.fail(title + "\n  " + "\n  ".join(lines), pytrace=False)


def test_files_stay_small() -> None:
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in sources()}
    written = sorted(count for path, count in lengths.items() if count > 0)
    longest = sorted(lengths, key=lengths.__getitem__, reverse=True)[:5]
    hint = ", ".join(f"{path.relative_to(ROOT)} {lengths[path]}" for path in longest)
    assert statistics.median(written) <= MEDIAN_LINES, f"the longest files: {hint}"
    assert statistics.quantiles(written, n=10)[-1] <= P90_LINES, f"the longest files: {hint}"


def _public_functions(path: Path) -> Iterator[tuple[ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef, str]]:
    """Public functions and classes of a file, and public methods of its public classes, with their names."""
    for node in tree_of(path).body:
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
        for path in sources()
        for node, name in _public_functions(path)
        if "." in name and ast.get_docstring(node)
    )


def test_public_names_have_docstrings_and_types() -> None:
    wrong = []
    known = _documented_methods() | {"forward"}
    for path in sources():
        if not ast.get_docstring(tree_of(path)) and tree_of(path).body:
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


NO_BEGINNING = ("Of", "What", "Who", "Whose", "Whether", "Where", "Which", "How", "That", "When", "Those", "If")
"""A docstring begins with a verb or a noun: a sentence that is understood with no other."""
LEAST_WITH_ARGS = 0.30
FUNCTION_LINES = (8, 12)


def test_docstrings_begin_with_a_verb_or_a_noun() -> None:
    wrong = []
    for path in sources():
        for node in ast.walk(tree_of(path)):
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
                text = ast.get_docstring(node) or ""
                if text.split(" ")[0].rstrip(",") in NO_BEGINNING:
                    wrong.append(f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 1)}: {text.splitlines()[0]}")
    _report("docstrings that begin with no verb and no noun:", wrong)


def test_public_functions_say_their_arguments() -> None:
    nodes = (node for path in sources() for node, _ in _public_functions(path))
    functions = [node for node in nodes if not isinstance(node, ast.ClassDef)]
    with_args = sum("Args:" in (ast.get_docstring(node) or "") for node in functions)
    assert with_args / len(functions) >= LEAST_WITH_ARGS, f"{with_args} of {len(functions)} have Args:"


def test_functions_are_neither_fragments_nor_monsters() -> None:
    nodes = [node for path in sources() for node in ast.walk(tree_of(path))]
    lengths = [n.end_lineno - n.lineno + 1 for n in nodes if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef))]
    low, high = FUNCTION_LINES
    assert low <= statistics.median(lengths) <= high, f"a function has {statistics.median(lengths)} lines in the middle"


def test_the_formatter_formats_everything() -> None:
    files = [
        path
        for folder in ("datasets", "pipelines", "ffavatar_model", "flows", "infra", "tests")
        for path in (ROOT / folder).rglob("*.py")
    ]
    mark = "# fmt: " + "skip"
    _report("lines kept from the formatter:", [str(path) for path in files if mark in path.read_text(encoding="utf-8")])
