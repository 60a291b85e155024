"""Questions that are asked of every corpus, by name: the files of ``mfhq/sql``."""

from __future__ import annotations

from importlib import resources


def named_queries() -> dict[str, str]:
    """Name to SQL; the first line of each is a comment that says what it answers."""
    files = sorted((resources.files("mfhq") / "sql").iterdir(), key=lambda file: file.name)
    return {file.name.removesuffix(".sql"): file.read_text() for file in files if file.name.endswith(".sql")}
