"""Named questions that every corpus answers, with typed parameters; they are the files in ``mfhq/sql``.

A file begins with a comment that states the question; each further comment above the query defines a parameter::

    -- People with many faces that look aside
    -- $faces INTEGER = 5: fewest such faces of a person
    SELECT ... HAVING count(*) >= $faces
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

_PARAMETER = re.compile(r"-- \$(\w+) ([A-Z]+) = (.*?): (.+)")


class QuestionError(ValueError):
    """Error of a question or a parameter that does not exist, or of a value of another type; one line."""


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(text)
    return value


TYPES: dict[str, Callable[[str], Any]] = {"INTEGER": int, "DOUBLE": _finite, "VARCHAR": str}
"""Types of parameters, and how each is read from a text."""


@dataclass(frozen=True)
class Parameter:
    """Parameter of a question, which stands in its SQL as ``$name``."""

    name: str
    kind: str
    """A key of ``TYPES``."""
    default: Any
    meaning: str


@dataclass(frozen=True)
class NamedQuery:
    """Question with the SQL that answers it."""

    name: str
    question: str
    parameters: tuple[Parameter, ...]
    sql: str

    def has(self, name: str) -> bool:
        """Return True if the question has a parameter of this name."""
        return any(parameter.name == name for parameter in self.parameters)

    @property
    def compares(self) -> bool:
        """True if the question compares the snapshot with an earlier one, by default the one before it."""
        return self.has("since")

    def bind_to(self, version: str, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return what ``bind`` returns; a parameter ``this_snapshot`` has the name of a snapshot as its default.

        Args:
            version: Name of the snapshot that is asked.
            values: Values by name.
        """
        return self.bind({**({"this_snapshot": version} if self.has("this_snapshot") else {}), **values})

    def bind(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return the value of every parameter: the given one, else its default.

        Args:
            values: Values by name, of the parameters' types or as texts.

        Raises:
            QuestionError: There is no such parameter, or a value is of another type.
        """
        known = {parameter.name: parameter for parameter in self.parameters}
        for name in values:
            if name not in known:
                has = ", ".join(known) or "none"
                raise QuestionError(f"{self.name} has no parameter {name!r}; it has {has}")
        bound = {name: parameter.default for name, parameter in known.items()}
        for name, value in values.items():
            try:
                bound[name] = TYPES[known[name].kind](str(value))
            except ValueError as error:
                wanted = f"{known[name].kind} is needed ({known[name].meaning})"
                raise QuestionError(f"{self.name}: {name}={value!s}: {wanted}") from error
        return bound


@cache
def named_queries() -> dict[str, NamedQuery]:
    """Return each question by its name, in alphabetical order."""
    files = sorted((resources.files("mfhq") / "sql").iterdir(), key=lambda file: file.name)
    names = [file.name.removesuffix(".sql") for file in files if file.name.endswith(".sql")]
    return {name: _parse(name, (resources.files("mfhq") / "sql" / f"{name}.sql").read_text()) for name in names}


def is_named(text: str) -> bool:
    """Return True if a text is the name of a question and no SQL, with or without ``@`` before it."""
    return re.fullmatch(r"\s*@?\w+\s*", text) is not None


def named_query(name: str) -> NamedQuery:
    """Return a question.

    Args:
        name: Its name, with or without ``@`` before it.

    Raises:
        QuestionError: No question has that name.
    """
    known = named_queries()
    if (found := known.get(name.strip().removeprefix("@"))) is None:
        near = difflib.get_close_matches(name, known, 1)
        names = ", ".join("@" + each for each in known)
        hint = f"did you mean {near[0]}?" if near else f"`ffavatar sql --list` lists {names}"
        raise QuestionError(f"no query {name!r}; {hint}")
    return found


def _parse(name: str, text: str) -> NamedQuery:
    first, *rest = text.splitlines()
    parameters = []
    for line in rest:
        if not (found := _PARAMETER.fullmatch(line)):
            break
        label, kind, default, meaning = found.groups()
        parameters.append(Parameter(label, kind, TYPES[kind](default), meaning))
    return NamedQuery(name, first.removeprefix("-- "), tuple(parameters), text)
