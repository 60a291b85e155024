"""Named SQL queries that can run on every corpus; they are the files in ``mfhq/sql``."""

from __future__ import annotations

from importlib import resources


def named_queries() -> dict[str, str]:
    """Return the SQL of each query by its name; the first line is a comment with the question that it answers."""
    files = sorted((resources.files("mfhq") / "sql").iterdir(), key=lambda file: file.name)
    return {file.name.removesuffix(".sql"): file.read_text() for file in files if file.name.endswith(".sql")}
