"""What a command says on the terminal: lines, tables, progress; and how an error becomes one line and a status."""

from __future__ import annotations

import logging
import time
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)

OURS = ("ava256", "ffavatar_model", "flows", "infra", "mfhq", "nersemble", "pipelines")
"""Packages whose code raises errors that are written to be read by the user."""

WRONG_CALL, SOME_FAILED = 2, 1


class CallError(ValueError):
    """The command was called with something it cannot use; the message names it and the way out."""


def say(text: str, **values: Any) -> None:
    """Print a line; markup in ``text`` is rendered, values are not."""
    out.print(text.format(**{k: str(v).replace("[", r"\[") for k, v in values.items()}) if values else text)


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Print a table; numbers are right-aligned."""
    drawn = Table(title=title, title_justify="left", title_style="bold", show_edge=False, pad_edge=False)
    for index, name in enumerate(columns):
        numeric = bool(rows) and all(isinstance(row[index], int | float) or row[index] is None for row in rows)
        drawn.add_column(name, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        drawn.add_row(*(_cell(value) for value in row))
    out.print(drawn)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.3f}".rstrip("0").rstrip(".")
    return str(value).replace("[", r"\[")


class ProgressBar:
    """Progress of long work by named parts: redrawn on a terminal, a line every few seconds elsewhere."""

    def __init__(self, title: str, every_s: float = 10.0) -> None:
        self._title, self._every_s = title, every_s
        self._began, self._last = time.monotonic(), 0.0
        self._parts: dict[str, tuple[int, int, Mapping[str, int]]] = {}
        self._shown = False

    def update(self, part: str, done: int, total: int, failed: Mapping[str, int] | None = None) -> None:
        """Record how far a part is; ``failed`` counts failures by reason."""
        self._parts[part] = (done, total, failed or {})
        self._shown = False
        now = time.monotonic()
        every = 0.2 if out.is_terminal else self._every_s
        if now - self._last >= every:
            self._last = now
            self._draw("\r" if out.is_terminal else "\n")

    def _draw(self, end: str) -> None:
        self._shown = True
        seconds = time.monotonic() - self._began
        parts = []
        for name, (done, total, failed) in self._parts.items():
            bad = " ".join(f"{reason}:{n}" for reason, n in failed.items())
            parts.append(f"{name} {done}/{total}" + (f" ({bad})" if bad else ""))
        out.print(f"  {self._title} {seconds:5.0f} s  " + "  ".join(parts), end=end, markup=False)

    def close(self) -> None:
        """Draw the last state, unless it stands there already."""
        if self._parts and not (self._shown and not out.is_terminal):
            self._draw("\n")


def start_log(folder: Path, command: str) -> Path:
    """Send every log record of this process to a file; returns it."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{time.strftime('%Y%m%d-%H%M%S')}-{command}.log"
    handler = logging.FileHandler(path, delay=True)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    logging.getLogger().addHandler(handler)
    logging.getLogger().setLevel(logging.INFO)
    return path


def report_error(error: BaseException, log_file: Path | None) -> int:
    """Print one line that names the thing, the value and the way out; the traceback goes to the log file.

    Returns the exit status: 2 for a wrong call, 1 for everything else.
    """
    if log_file is not None:
        logging.getLogger(__name__).error("%s", "".join(traceback.format_exception(error)))
    expected = _raised_by_us(error)
    line = " ".join(str(error.args[0] if isinstance(error, KeyError) and error.args else error).split())
    if not expected:
        line = f"{type(error).__name__}: {line}" if line else type(error).__name__
    rest = f" (details: {log_file})" if log_file and not expected else ""
    err.print(f"ffavatar: {line}{rest}", markup=False)
    wrong = expected and isinstance(error, ValueError | LookupError | FileNotFoundError)
    return WRONG_CALL if wrong else SOME_FAILED


def _raised_by_us(error: BaseException) -> bool:
    """Whether the error was raised on purpose: its class is ours, or the last frame is."""
    if type(error).__module__.split(".")[0] in OURS:
        return True
    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    name = str(last.tb_frame.f_globals.get("__name__", "")) if last is not None else ""
    return name.split(".")[0] in OURS and isinstance(error, ValueError | LookupError | OSError | RuntimeError)
