"""Progress on a terminal and elsewhere."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from infra import console
from infra.console import ProgressBar


def output(monkeypatch: pytest.MonkeyPatch, terminal: bool) -> io.StringIO:
    text = io.StringIO()
    monkeypatch.setattr(console, "out", Console(file=text, force_terminal=terminal, width=120, soft_wrap=True))
    return text


def test_lines_where_the_output_is_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    text = output(monkeypatch, terminal=False)
    with ProgressBar("mining") as progress:
        progress.update("tracks", 1, 4)
        progress.update("scores", 0, 4, {"no_face": 2})
    assert text.getvalue().splitlines() == [
        "  mining     0 s  tracks 1/4",
        "  mining     0 s  tracks 1/4  scores 0/4 (no_face:2)",
    ]


def test_a_row_a_part_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    text = output(monkeypatch, terminal=True)
    progress = ProgressBar("mining")
    progress.update("tracks", 1, 4)
    progress.update("scores", 2, 4, {"no_face": 2})
    progress.update("tracks", 4, 4)
    progress.close()
    last = [line for line in text.getvalue().splitlines() if "mining" in line][-2:]
    assert "mining tracks" in last[0] and "4/4" in last[0]
    assert "mining scores" in last[1] and "2/4" in last[1] and "no_face:2" in last[1]


def test_work_that_never_reports_prints_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for terminal in (False, True):
        text = output(monkeypatch, terminal)
        ProgressBar("mining").close()
        assert not text.getvalue().strip()


def test_an_id_is_in_one_line_of_a_table_however_narrow_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    text = io.StringIO()
    monkeypatch.setattr(console, "out", Console(file=text, force_terminal=False, width=60, soft_wrap=True))
    ids = [f"{number:064x}" for number in (1, 2)]
    meaning = "what this row is said to mean, in more words than a line has"
    console.print_table(
        "people", ("identity", "n", "uri", "meaning"), [(i, 3, f"/videos/{i}.mp4", meaning) for i in ids]
    )
    lines = text.getvalue().splitlines()
    assert all(any(i in line and f"/videos/{i}.mp4" in line for line in lines) for i in ids)
    text.seek(0)
    text.truncate()
    console.print_table("", ("a", "meaning"), [("x", meaning)])
    assert max(map(len, text.getvalue().splitlines())) <= 60, "text is wrapped as before"
