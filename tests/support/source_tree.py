"""The source tree as syntax trees: files, modules and every import, for the tests of architecture and style."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
OURS = ("mfhq", "ava256", "nersemble", "pipelines", "ffavatar_model", "flows", "infra")


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


def begins(name: str, prefix: str) -> bool:
    """Return whether a dotted name is a prefix, or lies below it."""
    return name == prefix or name.startswith(prefix + ".")


def module_name(path: Path) -> str:
    """Return the dotted name of a source file; ``datasets`` is a source root and stands in none."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    parts = parts[1:] if parts[0] == "datasets" else parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def sources() -> tuple[Path, ...]:
    """Every Python file of ours outside of tests."""
    folders = [ROOT / name for name in ("datasets", "pipelines", "ffavatar_model", "flows", "infra")]
    return tuple(sorted(path for folder in folders for path in folder.rglob("*.py")))


@cache
def tree_of(path: Path) -> ast.Module:
    """Return a file's syntax tree."""
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def imports_of(path: Path) -> Iterator[Import]:
    """Yield every import statement of a file, those inside functions and under ``if TYPE_CHECKING`` too."""
    module = module_name(path)
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
                yield Import(module, whole if is_module(whole) else base, path, node.lineno, at_top)
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for child in node.body:
                yield from visit(child, False)
            for child in node.orelse:
                yield from visit(child, at_top)
        else:
            inside = at_top and not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
            for child in ast.iter_child_nodes(node):
                yield from visit(child, inside)

    yield from visit(tree_of(path), True)


@cache
def our_modules() -> frozenset[str]:
    """Return the names of all source modules."""
    return frozenset(module_name(path) for path in sources())


def is_module(name: str) -> bool:
    """Return whether a dotted name is one of our modules."""
    return name in our_modules()


@cache
def imports() -> tuple[Import, ...]:
    """Return every import statement of the source tree."""
    return tuple(found for path in sources() for found in imports_of(path))
