"""Checks of the files that avatar commands write, before the work begins."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from infra.console import CallError


def check_output(option: str, out: Path, inputs: Sequence[Path], suffixes: Sequence[str]) -> None:
    """Check that a file can be written, and that it is none of the command's inputs.

    Args:
        option: Option that names the file, for error messages.
        out: The file.
        inputs: Files that the command reads; those that do not exist are ignored.
        suffixes: Allowed endings of the file's name, which say its format.

    Raises:
        CallError: The name has another ending, the file is an input or a folder, or its folder cannot be written.
    """
    if out.is_dir():
        raise CallError(f"{option} {out}: is a folder; name a file")
    if out.suffix.lower() not in suffixes:
        raise CallError(f"{option} {out}: the ending says the format; it can be {' or '.join(filter(None, suffixes))}")
    if out.exists() and any(path.exists() and path.samefile(out) for path in inputs):
        raise CallError(f"{option} {out}: is an input of this command; name another file")
    folder = out.parent
    while not folder.exists():
        folder = folder.parent
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise CallError(f"{option} {out}: {folder} is not a folder that can be written; name another")
