"""The command ``ffavatar sql``: questions, files, the terminal's table and the shell."""

from __future__ import annotations

import csv
import io
import json
import os
import pty
import re
import select
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from prompt_toolkit.completion import CompleteEvent
from prompt_toolkit.document import Document

from flows.cli import main
from flows.sql.sql_requests import SqlRequest, parse_query
from flows.sql.sql_shell import SqlCompleter, history_file
from infra import console
from pipelines.publishing.publish_presets import MFHQ
from tests.support.known_corpus import publish_known

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("known") / "corpus"
    publish_known(root)
    return root


@pytest.fixture
def run(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """``ffavatar sql WORDS --corpus ...``: its status, standard output and standard error."""
    monkeypatch.setenv("FFAVATAR_HOME", str(tmp_path / "home"))

    def ask(*words: object) -> tuple[int, str, str]:
        status = 0
        try:
            main(["sql", *map(str, words), "--corpus", str(corpus)])
        except SystemExit as ended:
            status = int(ended.code or 0)
        return status, *capsys.readouterr()

    return ask


def test_a_question_by_name_with_parameters(run: Run) -> None:
    status, out, err = run("turned_people", "--set", "faces=3", "--set", "beyond_deg=30")
    assert (status, err) == (0, "") and "p1" in out and re.search(r"1 rows in \d+\.\d\d s", out)
    assert run("@turned_people", "--set", "faces=4")[1].strip().splitlines()[-1].startswith("0 rows")
    status, out, _ = run("changes", "--set", "since=v2", "--json")
    assert status == 0 and {json.loads(line)["added"] for line in out.splitlines()} == {0}
    status, out, _ = run("SELECT count(*) AS n FROM faces WHERE yaw_deg > $yaw", "--set", "yaw=30.5", "--json")
    assert (status, json.loads(out)) == (0, {"n": 3})


def test_a_preset_stands_for_its_thresholds_and_single_ones_count_more(run: Run, corpus: Path) -> None:
    snapshot = SqlRequest(str(corpus), None).open()
    values = parse_query("regained", ["max_yaw_deg=80", "preset=mfhq"], snapshot).values
    assert values == {name: getattr(MFHQ, name) for name in values} | {"max_yaw_deg": 80.0} and len(values) == 10
    words = ("regained", "--json", "--set", "max_yaw_deg=80", "--set", "min_sharpness=20", "--set")
    status, out, err = run(*words, "preset=small")
    assert (status, err, json.loads(out)) == (0, "", {"source": "/src/a", "reason": "turned_away", "faces": 1})
    assert run(*words, "preset=mfhq")[:2] == (0, "")


def test_the_list_names_every_question_and_parameter(run: Run) -> None:
    status, out, _ = run("--list")
    assert status == 0 and "turned_people" in out and "--set beyond_deg=30.0" in out and "ask with:" in out


def test_csv_json_and_parquet_have_the_same_rows(run: Run, tmp_path: Path) -> None:
    sql = "SELECT identity_id, n_faces, [split] AS splits FROM identities ORDER BY identity_id"
    status, out, err = run(sql, "--csv")
    assert (status, err) == (0, "")
    assert list(csv.reader(io.StringIO(out))) == [
        ["identity_id", "n_faces", "splits"],
        ["p1", "4", "[train]"],
        ["p2", "1", "[val]"],
    ]
    rows = [json.loads(line) for line in run(sql, "--json")[1].splitlines()]
    status, out, err = run(sql, "--parquet", tmp_path / "people.parquet")
    assert (status, err) == (0, "") and re.search(r"people.parquet: 2 rows in", out)
    assert pq.read_table(tmp_path / "people.parquet").to_pylist() == rows
    assert rows[0] == {"identity_id": "p1", "n_faces": 4, "splits": ["train"]}
    assert run("DESCRIBE faces", "--csv")[0] == 0 and run("EXPLAIN SELECT 1", "--json")[0] == 0


@pytest.mark.parametrize("form", ["--csv", "--json", "--parquet"])
def test_a_query_that_fails_half_way_writes_nothing(form: str, run: Run, tmp_path: Path) -> None:
    kept = tmp_path / "kept.parquet"
    kept.write_bytes(b"before")
    sql = "SELECT CAST(CASE WHEN i = 900000 THEN 'x' ELSE '1' END AS INTEGER) AS n FROM range(1000000) r(i)"
    status, out, err = run(sql, form, *([kept] if form == "--parquet" else []))
    assert (status, out, len(err.splitlines())) == (2, "", 1) and "Conversion Error" in err
    assert kept.read_bytes() == b"before" and {path.name for path in tmp_path.iterdir()} <= {"kept.parquet", "home"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("peeple",), "did you mean people?"),
        (("people", "--set", "most"), "--set most: has no value; write --set NAME=VALUE"),
        (("people", "--set", "most=x"), "most=x: INTEGER is needed"),
        (("regained", "--set", "preset=big"), "regained: no preset 'big'; there are small, mfhq"),
        (("people", "--set", "preset=small"), "people has no parameter 'preset'"),
        (("people", "--csv", "--parquet", "{tmp}/a"), "one of them is needed"),
        (("--csv",), "no query is given"),
        (("people", "--parquet", "{tmp}/nowhere/a"), "its folder does not exist"),
        (("people", "--parquet", "{tmp}"), "is a folder"),
        (("people", "--parquet", "{corpus}/tables/a.parquet"), "is in the corpus"),
        (("changes", "--set", "since=v9"), "no snapshot 'v9'"),
        (("SELECT $a",), "$a|parameter"),
        (("COPY (SELECT $a) TO '{tmp}/a'", "--set", "a=1"), "COPY is refused"),
    ],
)
def test_a_wrong_call_is_one_line(words: tuple[str, ...], message: str, run: Run, tmp_path: Path, corpus: Path) -> None:
    status, out, err = run(*(word.format(tmp=tmp_path, corpus=corpus) for word in words))
    assert (status, out, len(err.splitlines())) == (2, "", 1), err
    assert any(part in err for part in message.split("|")), err
    assert not [path for path in tmp_path.iterdir() if path.name != "home"]


def test_a_long_table_shows_200_rows_and_says_how_many_there_are(run: Run) -> None:
    status, out, _ = run("SELECT i FROM range(208000) r(i)")
    lines = out.splitlines()
    assert status == 0 and len(lines) < 210 and "199" in out
    assert re.fullmatch(
        r"208,000 rows in .* s; the first 200 are shown; --csv, --json and --parquet FILE have all", lines[-1]
    )


def test_rows_stand_upright_where_columns_do_not_fit(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console.out, "_force_terminal", True)
    monkeypatch.setattr(console.out, "_width", 60)
    status, out, _ = run("SELECT * FROM videos WHERE video_id = 'va'")
    assert status == 0 and "row 1" in out and re.search(r"licence\s+\| CC BY", out)
    status, out, _ = run("SELECT video_id, licence FROM videos")
    assert status == 0 and "row 1" not in out


def test_completion_knows_questions_views_and_columns() -> None:
    def completed(text: str) -> set[str]:
        return {c.text for c in SqlCompleter().get_completions(Document(text), CompleteEvent())}

    assert completed("turn") == {"turned_people"} and ".help" in completed(".h")
    assert "faces" in completed("SELECT count(*) FROM fa")
    assert {"yaw_deg"} == completed("FROM faces f SELECT f.yaw")
    assert "frame_index" in completed("FROM faces SELECT fra") and "frame_index" not in completed(
        "FROM videos SELECT fra"
    )


def test_the_history_is_for_the_user_alone(tmp_path: Path) -> None:
    path = history_file(tmp_path / "home")
    path.chmod(0o644)
    assert history_file(tmp_path / "home").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "home").stat().st_mode & 0o077 == 0


def test_the_notebook_runs(corpus: Path) -> None:
    notebook = json.loads((Path(__file__).parents[3] / "docs/sql.ipynb").read_text())
    cells = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    check = "assert list(people['identity_id']) == ['p1', 'p2'] and n_rows == 5 and turned['faces'].sum() == 3"
    env = {**os.environ, "FFAVATAR_CORPUS": str(corpus)}
    ended = subprocess.run([sys.executable, "-c", "\n".join([*cells, check])], env=env, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr


class Terminal:
    """``ffavatar sql`` in a terminal of its own."""

    def __init__(self, corpus: Path, home: Path) -> None:
        self.master, slave = pty.openpty()
        env = {**os.environ, "FFAVATAR_HOME": str(home), "TERM": "xterm", "COLUMNS": "100", "LINES": "40"}
        words = [sys.executable, "-m", "flows.cli", "sql", "--corpus", str(corpus)]
        self.process = subprocess.Popen(words, stdin=slave, stdout=slave, stderr=slave, env=env, close_fds=True)
        os.close(slave)
        self.text = ""

    def until(self, pattern: str) -> str:
        """Wait for a text, and return everything since the last one."""
        deadline = time.monotonic() + 60
        while not (found := re.search(pattern, self.text)):
            assert time.monotonic() < deadline, f"{pattern!r} did not come in {self.text!r}"
            if select.select([self.master], [], [], 0.2)[0]:
                self.text += os.read(self.master, 1 << 16).decode(errors="replace")
                if "\x1b[6n" in self.text:  # prompt_toolkit asks where the cursor is
                    os.write(self.master, b"\x1b[1;1R")
                self.text = re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", self.text)
        seen, self.text = self.text[: found.end()], self.text[found.end() :]
        return seen

    def type(self, text: str) -> None:
        self.until("sql>")  # before the prompt stands the terminal would take Ctrl-D for itself
        os.write(self.master, text.encode())


def test_the_shell_answers_and_goes_on_after_an_error(corpus: Path, tmp_path: Path) -> None:
    terminal = Terminal(corpus, tmp_path / "home")
    try:
        terminal.type("SELECT count(*) AS n\rFROM faces;\r")
        assert re.search(r"\b7\b", terminal.until(r"1 rows in \d"))
        terminal.type("turned_people faces=3\r")
        assert "p1" in terminal.until(r"1 rows in \d")
        terminal.type("COPY faces TO 'x.csv';\r")
        terminal.until("COPY is refused")
        terminal.type("people most=few\r")
        terminal.until("INTEGER is needed")
        terminal.type(".describe chosen\r")
        terminal.until("mouth_open")
        terminal.type(".help\r")
        terminal.until("Ctrl-D ends it")
        terminal.type("\x04")
        assert terminal.process.wait(20) == 0
    finally:
        terminal.process.kill()
        os.close(terminal.master)
    history = tmp_path / "home" / "sql_history"
    assert "FROM faces;" in history.read_text() and history.stat().st_mode & 0o777 == 0o600
