"""Interactive shell of ``ffavatar sql``."""

from __future__ import annotations

import os
import re
import shlex
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from prompt_toolkit import PromptSession
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document
from prompt_toolkit.filters import Condition
from prompt_toolkit.history import FileHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent

from flows.sql.sql_output import print_answer
from flows.sql.sql_requests import SqlRequest, describe_views, list_questions, parse_query
from infra.console import CallError, err, print_rows, say
from infra.settings import PRIVATE_FOLDER, load_settings
from infra.storage import StoreError
from mfhq.catalog import CatalogError, Snapshot, explain_refusal
from mfhq.fenced_connection import BEFORE, FencedConnection
from mfhq.named_queries import is_named, named_queries
from mfhq.seals import DamagedFileError
from mfhq.views import DICTIONARY, dictionary_table

HELP = """A query ends with a semicolon and may have several lines; the name of a question asks it.
  SELECT count(*) FROM faces;      any one query that reads (docs/sql.md)
  people most=5                    a named question with a parameter
  .list                            the named questions and their parameters
  .views                           the views and their columns
  .describe VIEW                   the columns of one view
  .help  .quit                     this text; the end (Ctrl-D ends it, too)"""
"""Answer to ``.help``."""

_COMMANDS = (".help", ".list", ".views", ".describe", ".quit")
_KEYWORDS = (
    *("SELECT", "FROM", "WHERE", "GROUP BY", "ORDER BY", "HAVING", "LIMIT", "JOIN", "LEFT JOIN", "USING", "WITH"),
    *("DESCRIBE", "SUMMARIZE", "EXPLAIN", "DISTINCT", "QUALIFY", "FILTER", "CASE", "WHEN", "THEN", "END", "AS", "AND"),
)
_WORD = re.compile(r"[.@\w]+")


def run_shell(request: SqlRequest, snapshot: Snapshot, **session: Any) -> None:
    """Answer queries until the end of the input.

    Args:
        request: What queries may read.
        snapshot: The snapshot.
        **session: Arguments of ``prompt_toolkit.PromptSession``, such as another input and output.
    """
    say("{uri} {version}; .help says more", uri=snapshot.store.uri, version=snapshot.version)
    prompt: PromptSession[str] = PromptSession(
        "sql> ",
        history=FileHistory(str(history_file(load_settings().home))),
        completer=SqlCompleter(),
        complete_while_typing=False,
        multiline=True,
        key_bindings=_submit_keys(),
        prompt_continuation=" ...> ",
        reserve_space_for_menu=4,
        **session,
    )
    earlier = snapshot.compared(named_queries()["changes"], {"since": ""})
    with snapshot.connect(request.biometric, request.trusted, earlier) as connection:
        while True:
            try:
                text = prompt.prompt().strip()
            except KeyboardInterrupt:
                continue
            except EOFError:
                return
            if text in (".quit", ".exit"):
                return
            if text:
                _respond(text, snapshot, connection)


def history_file(home: Path) -> Path:
    """Return the file of former queries, which only the user may read; it is created if missing.

    Args:
        home: Folder of runs and logs.
    """
    home.mkdir(parents=True, exist_ok=True, mode=PRIVATE_FOLDER)
    path = home / "sql_history"
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    path.chmod(0o600)
    return path


class SqlCompleter(Completer):
    """Completion of questions and commands at the beginning of a text, and of views and columns everywhere."""

    def __init__(self) -> None:
        """Read the names from the schema."""
        self._columns: dict[str, list[str]] = {}
        for row in dictionary_table().to_pylist():
            self._columns.setdefault(row["table_name"], []).append(row["column_name"])
        self._columns[DICTIONARY] = ["table_name", "column_name", "type", "unit", "description"]

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterator[Completion]:
        """Yield the names that continue the word before the cursor.

        Args:
            document: The text and the cursor.
            complete_event: Ignored.
        """
        typed = re.search(r"[.@\w]*$", document.text_before_cursor)
        word = typed[0] if typed else ""
        at_start = not document.text_before_cursor[: len(document.text_before_cursor) - len(word)].strip()
        if not at_start and "." in word:
            word = word.rpartition(".")[2]
        for name in self._names(document.text, at_start):
            if name.lower().startswith(word.lower()):
                yield Completion(name, start_position=-len(word))

    def _names(self, text: str, at_start: bool) -> Iterable[str]:
        if at_start:
            yield from (*_COMMANDS, *named_queries())
        named = {word.lower().removeprefix(BEFORE) for word in _WORD.findall(text)} & self._columns.keys()
        yield from dict.fromkeys(column for view in sorted(named) for column in self._columns[view])
        yield from (*self._columns, *_KEYWORDS)


def _submit_keys() -> KeyBindings:
    """Return the binding by which Enter ends a query that is complete; else it begins another line."""
    keys = KeyBindings()

    @Condition
    def complete() -> bool:
        from prompt_toolkit.application import get_app

        return _is_complete(get_app().current_buffer.text)

    @keys.add("enter", filter=complete)
    def _submit(event: KeyPressEvent) -> None:
        event.current_buffer.validate_and_handle()

    return keys


def _is_complete(text: str) -> bool:
    text = text.strip()
    first = text.partition(" ")[0].removeprefix("@")
    return not text or text.startswith(".") or text.endswith(";") or first in named_queries()


def _respond(text: str, snapshot: Snapshot, connection: FencedConnection) -> None:
    """Answer one text; an error is one line, and the shell goes on."""
    try:
        with explain_refusal():
            if text.startswith("."):
                _command(text, snapshot, connection)
                return
            query, settings = text, list[str]()
            if is_named(text.partition(" ")[0]) and not text.endswith(";"):
                query, *settings = shlex.split(text)
            parsed = parse_query(query, settings, snapshot)
            if parsed.values.get("since"):
                raise CallError(
                    "since: the shell compares with the snapshot before; ffavatar sql changes --set since=vN"
                )
            print_answer(connection, parsed.sql, parsed.values, time.perf_counter(), paged=True)
    except (CallError, CatalogError, DamagedFileError, StoreError, ValueError) as error:
        err.print(str(error), markup=False)
    except KeyboardInterrupt:
        err.print("interrupted", markup=False)


def _command(text: str, snapshot: Snapshot, connection: FencedConnection) -> None:
    name, _, argument = text.partition(" ")
    if name == ".help":
        say(HELP.replace("[", r"\["))
    elif name == ".list":
        list_questions()
    elif name == ".views":
        describe_views(snapshot)
    elif name == ".describe" and argument.strip():
        rows = connection.table(
            f"SELECT column_name, type, unit, description FROM {DICTIONARY} WHERE table_name = $1",
            [argument.strip().lower().rstrip(";")],
        ).to_pylist()
        if not rows:
            raise CallError(f"no view {argument.strip()!r}; .views lists them")
        print_rows(list(rows[0]), [list(row.values()) for row in rows])
    else:
        raise CallError(f"no command {text!r}; there are {', '.join(_COMMANDS)}")
