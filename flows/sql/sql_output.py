"""Output of SQL queries: rows on a terminal, CSV and JSON lines, and files that are never half-written."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from infra.console import CallError, out, print_rows, say
from infra.storage import FolderStore, open_store
from mfhq.fenced_connection import FencedConnection

MOST_SHOWN = 200
"""Most rows that are shown as a table; their number is always that of all."""


def print_answer(
    connection: FencedConnection, sql: str, values: Mapping[str, Any], began: float, paged: bool = False
) -> None:
    """Print the first rows of a query, the number of all, and the time that it took.

    Args:
        connection: The snapshot.
        sql: The query.
        values: Values of its parameters.
        began: Time at which it was asked, seconds of ``time.perf_counter``.
        paged: Show rows that do not fit the screen with the user's pager.
    """
    head, total = connection.head(sql, MOST_SHOWN, values or None)
    rows = list(zip(*(column.to_pylist() for column in head.columns), strict=True))
    seconds = time.perf_counter() - began
    with out.pager(styles=True) if paged and len(rows) + 4 > out.height else contextlib.nullcontext():
        print_rows(head.column_names, rows)
    if total > len(rows):
        hint = "the first {shown} are shown; --csv, --json and --parquet FILE have all"
        say("{n:,} rows in {s:.2f} s; " + hint, n=total, s=seconds, shown=len(rows))
    else:
        say("{n:,} rows in {s:.2f} s", n=total, s=seconds)


def copy_to_output(file: Path) -> None:
    """Copy a file of text to standard output.

    Args:
        file: The file, UTF-8.
    """
    with file.open(encoding="utf-8", newline="") as stream:
        shutil.copyfileobj(stream, sys.stdout, 1 << 20)
    sys.stdout.flush()


@contextlib.contextmanager
def replacing(file: Path, corpus: str) -> Iterator[Path]:
    """Yield a temporary path beside a file, and move it there at the end of the block if nothing failed.

    Args:
        file: The file to write or replace.
        corpus: URI of the corpus, in which no file may be written.

    Raises:
        CallError: The file's folder does not exist, or the file would be in the corpus.
    """
    target = file.expanduser().absolute()
    store = open_store(corpus)
    if isinstance(store, FolderStore) and target.resolve().is_relative_to(Path(store.root).resolve()):
        raise CallError(f"{file}: is in the corpus; name a file outside {store.root}")
    if not target.parent.is_dir() or target.is_dir():
        raise CallError(f"{file}: {'is a folder' if target.is_dir() else 'its folder does not exist'}; name a file")
    part = target.with_name(f".part-{uuid.uuid4().hex}")
    try:
        yield part
        descriptor = os.open(part, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
