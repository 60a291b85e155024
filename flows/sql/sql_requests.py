"""Requests of SQL users: the snapshot and the query, the views and the named questions that there are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from infra.console import CallError, print_table, say
from infra.storage import open_store
from mfhq.catalog import Catalog, Snapshot
from mfhq.named_queries import NamedQuery, QuestionError, is_named, named_queries, named_query
from mfhq.paths import PRIVATE_TABLES
from mfhq.schema import TABLES
from pipelines.publishing.publish_presets import Preset, preset_named


@dataclass(frozen=True)
class SqlRequest:
    """Snapshot that is asked, and what a query may read."""

    corpus: str
    version: str | None
    biometric: bool = False
    trusted: bool = False

    def open(self) -> Snapshot:
        """Open the snapshot.

        Raises:
            CatalogError: There is none.
        """
        return Catalog(open_store(self.corpus)).open(self.version)


@dataclass(frozen=True)
class Query:
    """SQL with the values of its parameters."""

    sql: str
    values: dict[str, Any]
    question: NamedQuery | None = None


def parse_query(text: str, settings: Sequence[str], snapshot: Snapshot) -> Query:
    """Return the query of a text, which is SQL or the name of a question.

    Args:
        text: The text.
        settings: NAME=VALUE for parameters; ``preset=NAME`` stands for the thresholds of a preset of ``publish``,
            in a question whose parameters are thresholds. Thresholds that are given beside it count more.
        snapshot: The snapshot that is asked.

    Raises:
        CallError: The text is empty, or a setting has no value.
        QuestionError: There is no such question, parameter or preset, or a value is of another type.
    """
    if not text.strip():
        raise CallError("the query is empty; try: ffavatar sql 'SELECT stage, reason, items FROM funnel'")
    values = dict[str, Any]()
    for setting in settings:
        name, separator, value = setting.partition("=")
        if not separator or not name:
            raise CallError(f"--set {setting}: has no value; write --set NAME=VALUE")
        values[name] = value
    if is_named(text):
        question = named_query(text)
        return Query(question.sql, question.bind_to(snapshot.version, _with_preset(question, values)), question)
    return Query(text, {name: _literal(value) for name, value in values.items()})


def describe_views(snapshot: Snapshot) -> None:
    """Print every view with its columns and their meanings.

    Args:
        snapshot: The snapshot.
    """
    say("{uri} {version}: the views are", uri=snapshot.store.uri, version=snapshot.version)
    for name, schema in TABLES.items():
        rows = [(f.name, str(f.type), (f.metadata or {}).get(b"description", b"").decode()) for f in schema]
        private = " (with --biometric)" if name in PRIVATE_TABLES else ""
        title = f"{name}{private}: {(schema.metadata or {})[b'description'].decode()}"
        print_table(title, ("column", "type", "meaning"), rows)


def list_questions() -> None:
    """Print the named questions, each with its parameters and their defaults."""
    for question in named_queries().values():
        say("[bold]{name}[/bold]  {question}", name=question.name, question=question.question)
        for p in question.parameters:
            default = p.default if p.default != "" else "(empty)"
            say("    --set {name}={default}  {meaning}", name=p.name, default=default, meaning=p.meaning)
    say("ask with: ffavatar sql NAME --corpus URI [--set PARAMETER=VALUE]")


def _with_preset(question: NamedQuery, values: dict[str, Any]) -> dict[str, Any]:
    """Return values of parameters in which a preset's thresholds stand in the place of its name."""
    names = [parameter.name for parameter in question.parameters]
    if "preset" not in values or not names or not set(names) <= {f.name for f in fields(Preset)}:
        return values
    try:
        preset = preset_named(values["preset"])
    except ValueError as error:
        raise QuestionError(f"{question.name}: {error}") from error
    given = {name: value for name, value in values.items() if name != "preset"}
    return {name: getattr(preset, name) for name in names} | given


def _literal(text: str) -> Any:
    """Return a value of a parameter of SQL that the user wrote: a number if it is one, else the text."""
    for read in (int, float):
        try:
            return read(text)
        except ValueError:
            continue
    return text
