"""Terminal output of commands: lines, tables, progress, and errors as one line with an exit status."""

from __future__ import annotations

import logging
import time
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, Self

from rich.cells import cell_len
from rich.console import Console
from rich.measure import Measurement
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Task as RichTask
from rich.table import Table
from rich.text import Text

from infra.shown_text import mask_logs, shown_text

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)
said = logging.getLogger(f"{__name__}.said")
"""Logger of the lines that ``say`` prints; the terminal has them already, so only handlers of its own get them."""
said.propagate = False

OURS = ("ava256", "ffavatar_model", "flows", "infra", "mfhq", "nersemble", "pipelines")
"""Packages of this project; the messages of their errors are written for the user."""

WRONG_CALL, SOME_FAILED = 2, 1
"""Exit statuses of a command that was called wrongly, and of a command with failed items or another error."""


class CallError(ValueError):
    """Error in the arguments of a command; the message names the argument, its value and what to do."""


def say(text: str, **values: Any) -> None:
    """Print a line.

    Args:
        text: Format string; rich markup in it is rendered.
        values: Values for the format string. Numbers may have a format. Of other values markup is not rendered, secrets
            are masked, and control characters are spelled out (``infra.shown_text``).
    """
    shown = {k: v if isinstance(v, int | float) else _plain(v) for k, v in values.items()}
    line = text.format(**shown) if values else text
    out.print(line)
    if said.handlers:
        said.info("%s", Text.from_markup(line).plain)


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Print a table, with cells as ``say`` prints values; an id is in one line, however narrow the terminal is.

    Args:
        title: Line above the table.
        columns: Headings; a column of numbers is right-aligned.
        rows: Rows, each with one cell per column; None is an empty cell.
    """
    drawn, needed = _draw_table(title, columns, rows)
    out.print(drawn, width=max(out.width, needed))  # a line is longer than the terminal, rather than an id broken


def print_rows(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Print rows as a table; on a terminal that it does not fit, each row upright: a line for each column.

    Args:
        columns: Headings.
        rows: Rows, with cells as in ``print_table``.
    """
    drawn, needed = _draw_table("", columns, rows)
    if not out.is_terminal or needed <= out.width:
        out.print(drawn, width=max(out.width, needed))
        return
    widest = max(map(cell_len, columns))
    for number, row in enumerate(rows, 1):
        out.print(f"-- row {number} ".ljust(out.width, "-"), style="dim")
        for name, value in zip(columns, row, strict=True):
            out.print(f"{_plain(name)}{' ' * (widest - cell_len(name))} | {_cell(value)}")


def _draw_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> tuple[Table, int]:
    """Return a table and the width that it needs."""
    drawn = Table(title=_plain(title), title_justify="left", title_style="bold", show_edge=False, pad_edge=False)
    for index, name in enumerate(columns):
        numeric = bool(rows) and all(isinstance(row[index], int | float) or row[index] is None for row in rows)
        words = [word for row in rows for word in shown_text(str(row[index])).split()]
        longest = 0 if numeric else max(map(cell_len, words), default=0)
        drawn.add_column(name, justify="right" if numeric else "left", overflow="fold", min_width=longest or None)
    for row in rows:
        drawn.add_row(*(_cell(value) for value in row))
    return drawn, Measurement.get(out, out.options.update(max_width=1 << 20), drawn).minimum


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.3f}".rstrip("0").rstrip(".")
    return _plain(value)


def _plain(value: Any) -> str:
    return shown_text(str(value)).replace("[", r"\[")


class StepCounts(Protocol):
    """Counts of a running step; ``pipelines.engine.progress.StepProgress`` implements this protocol."""

    @property
    def step(self) -> str:
        """Name of the step."""

    @property
    def done(self) -> int:
        """Number of items that have ended, including failed items."""

    @property
    def total(self) -> int:
        """Number of items of the step in this run."""

    @property
    def failed(self) -> Mapping[str, int]:
        """Number of failed items by reason."""

    @property
    def in_work(self) -> float:
        """Sum of the shares that are done of long items in work."""


class _RateColumn(TextColumn):
    """Column with the number of items per minute."""

    def __init__(self) -> None:
        super().__init__("")

    def render(self, task: RichTask) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{60 * speed:.1f}/min", style="progress.data.speed")


class ProgressBar:
    """Progress display of long work that has named parts.

    On a terminal, each part is a row with a bar, counts, rate, time, and failures by reason. Otherwise a plain line
    with the counts is printed every ``every_s`` seconds. Used as a context manager, it is closed when the block ends.
    """

    def __init__(self, title: str, every_s: float = 10.0) -> None:
        """Create the display, which shows nothing yet.

        Args:
            title: Name of the work, printed at the start of each line.
            every_s: Seconds between two lines if the output is not a terminal.
        """
        self._title, self._every_s = shown_text(title), every_s
        self._began, self._printed_at = time.monotonic(), 0.0
        self._parts: dict[str, tuple[float, int, Mapping[str, int]]] = {}
        self._is_printed = False
        self._tasks: dict[str, TaskID] = {}
        self._display: Progress | None = None
        if out.is_terminal:
            self._display = Progress(
                TextColumn("  {task.description}", markup=False),
                BarColumn(),
                MofNCompleteColumn(),
                _RateColumn(),
                TimeElapsedColumn(),
                TextColumn("{task.fields[failures]}", markup=False),
                console=out,
                refresh_per_second=5,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def update(self, part: str, done: float, total: int, failed: Mapping[str, int] | None = None) -> None:
        """Record the progress of a part.

        Args:
            part: Name of the part; a new name gets a new row.
            done: Number of items that have ended; with decimals, also the shares that are done of items in work.
            total: Number of items of the part.
            failed: Number of failed items by reason.
        """
        part = shown_text(part)
        self._parts[part] = (done, total, failed or {})
        self._is_printed = False
        if self._display is not None:
            self._display.start()
            if part not in self._tasks:
                self._tasks[part] = self._display.add_task(f"{self._title} {part}", total=total, failures="")
            failures = _by_reason(failed or {})
            self._display.update(self._tasks[part], completed=done, total=total, failures=failures)
        elif time.monotonic() - self._printed_at >= self._every_s:
            self._print_line()

    def update_step(self, counts: StepCounts) -> None:
        """Record the progress of a step; callable as ``on_progress`` of ``pipelines.engine.ray_data.run_steps``."""
        done = counts.done + counts.in_work if counts.in_work else counts.done
        self.update(counts.step, done, counts.total, counts.failed)

    def close(self) -> None:
        """Print the last counts, unless they are printed already."""
        if self._display is not None:
            self._display.stop()
        elif self._parts and not self._is_printed:
            self._print_line()

    def _print_line(self) -> None:
        self._printed_at, self._is_printed = time.monotonic(), True
        seconds = self._printed_at - self._began
        parts = []
        for name, (done, total, failed) in self._parts.items():
            count = f"{done:.2f}" if isinstance(done, float) else str(done)
            parts.append(f"{name} {count}/{total}" + (f" ({_by_reason(failed)})" if failed else ""))
        out.print(f"  {self._title} {seconds:5.0f} s  " + "  ".join(parts), markup=False)


def _by_reason(failed: Mapping[str, int]) -> str:
    return shown_text(" ".join(f"{reason}:{n}" for reason, n in failed.items()))


def start_log(folder: Path, command: str) -> Path:
    """Write every log record of this process to a new file, without secrets; only the user may read the folder.

    Args:
        folder: Folder of the log files; created if missing.
        command: Name of the command, which becomes part of the file name.

    Returns:
        Path of the file, which is created with the first record.
    """
    mask_logs()
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = folder / f"{time.strftime('%Y%m%d-%H%M%S')}-{command}.log"
    handler = logging.FileHandler(path, delay=True)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    logging.getLogger().addHandler(handler)
    logging.getLogger().setLevel(logging.INFO)
    return path


def report_error(error: BaseException, log_file: Path | None) -> int:
    """Print an error as one line, and write its traceback to the log file.

    Args:
        error: The error that ended the command.
        log_file: Log file of this process; None if no log was started.

    Returns:
        The exit status: ``WRONG_CALL`` for errors of the call, ``SOME_FAILED`` for all others.
    """
    if log_file is not None:
        logging.getLogger(__name__).error("%s", "".join(traceback.format_exception(error)))  # masked by ``mask_logs``
    expected = _raised_by_us(error)
    line = " ".join(str(error.args[0] if isinstance(error, KeyError) and error.args else error).split())
    if not expected:
        line = f"{type(error).__name__}: {line}" if line else type(error).__name__
    details = f" (details: {log_file})" if log_file and not expected else ""
    complain(f"{line}{details}")
    wrong = expected and isinstance(error, ValueError | LookupError | FileNotFoundError)
    return WRONG_CALL if wrong else SOME_FAILED


def complain(line: str) -> None:
    """Print the one line that says why a command ended, on standard error."""
    err.print(shown_text(f"ffavatar: {line}"), markup=False)


def _raised_by_us(error: BaseException) -> bool:
    """Return True if this project raised the error on purpose: its class or the raising code is from ``OURS``."""
    if type(error).__module__.split(".")[0] in OURS:
        return True
    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    name = str(last.tb_frame.f_globals.get("__name__", "")) if last is not None else ""
    return name.split(".")[0] in OURS and isinstance(error, ValueError | LookupError | OSError | RuntimeError)
