"""Settings as nested frozen dataclasses: conversion from and to dictionaries, and overrides written ``a.b=c``."""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

T = TypeVar("T")


def to_dict(config: Any) -> dict[str, Any]:
    """Convert a configuration to dictionaries, lists and plain values that JSON can represent."""
    return json.loads(json.dumps(dataclasses.asdict(config)))


def from_dict(kind: type[T], values: Mapping[str, Any], path: str = "") -> T:
    """Build a dataclass and the dataclasses nested in it from plain values; missing fields get their defaults.

    Args:
        kind: The dataclass.
        values: Values by field name.
        path: Name of this configuration in its parent, for error messages; empty for the outermost one.

    Returns:
        An instance of ``kind``.

    Raises:
        ValueError: A field is unknown, missing or of a wrong type; the message contains the field's full name.
    """
    if not isinstance(values, Mapping):
        raise ValueError(f"{path or kind.__qualname__}={values!r}: fields of {kind.__qualname__} are expected")
    hints = typing.get_type_hints(kind)
    known = {f.name: f for f in dataclasses.fields(kind)}  # type: ignore[arg-type]
    for name in values:
        if name not in known:
            raise ValueError(f"{_join(path, name)}: no such setting; allowed here: {', '.join(known)}")
    for name, f in known.items():
        required = f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
        if required and name not in values:
            raise ValueError(f"{_join(path, name)}: missing, and it has no default")
    return kind(**{name: _convert(hints[name], value, _join(path, name)) for name, value in values.items()})


def override(config: T, assignments: Iterable[str]) -> T:
    """Return a copy with settings replaced.

    Args:
        config: A configuration.
        assignments: Strings ``a.b=value``; the value is JSON, or else is taken as a string.

    Returns:
        The changed copy.

    Raises:
        ValueError: An assignment has no ``=``, names an unknown field, or has a value that is not allowed.
    """
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if not equals:
            raise ValueError(f"{assignment!r}: a setting is written name=value, for example optimizer.lr=1e-3")
        try:
            value = json.loads(text)
        except json.JSONDecodeError:
            value = text
        config = _replace(config, name.strip().split("."), value, "")
    return config


def _replace(config: Any, names: list[str], value: Any, path: str) -> Any:
    kind, name = type(config), names[0]
    allowed = [f.name for f in dataclasses.fields(config)] if dataclasses.is_dataclass(config) else []
    here = _join(path, name)
    if name not in allowed:
        raise ValueError(f"{here}: no such setting; allowed here: {', '.join(allowed) or 'nothing'}")
    if len(names) > 1:
        new = _replace(getattr(config, name), names[1:], value, here)
    else:
        new = _convert(typing.get_type_hints(kind)[name], value, here)
    return dataclasses.replace(config, **{name: new})


def _convert(hint: Any, value: Any, path: str) -> Any:
    """Convert a value to the type ``hint``: a dataclass, bool, int, float, str, tuple, Literal or a union."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if dataclasses.is_dataclass(hint):
        return value if isinstance(value, hint) else from_dict(hint, value, path)  # type: ignore[arg-type]
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        errors = []
        for argument in (a for a in arguments if a is not type(None)):
            try:
                return _convert(argument, value, path)
            except ValueError as error:
                errors.append(error)
        raise errors[0]
    if origin is typing.Literal:
        if value not in arguments:
            raise ValueError(f"{path}={value!r}: allowed are {', '.join(map(repr, arguments))}")
        return value
    if origin is tuple and isinstance(value, (list, tuple)):
        if arguments[-1] is Ellipsis:
            return tuple(_convert(arguments[0], v, f"{path}[{i}]") for i, v in enumerate(value))
        if len(value) == len(arguments):
            return tuple(_convert(a, v, f"{path}[{i}]") for i, (a, v) in enumerate(zip(arguments, value, strict=True)))
    if hint is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    if isinstance(hint, type) and type(value) is hint:
        return value
    raise ValueError(f"{path}={value!r}: {getattr(hint, '__name__', hint)} is expected")


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def require(condition: bool, name: str, value: object, allowed: str) -> None:
    """Check a setting.

    Args:
        condition: True if the value is allowed.
        name: Name of the field.
        value: Value of the field.
        allowed: Description of the allowed values, for the error message.

    Raises:
        ValueError: ``condition`` is False.
    """
    if not condition:
        raise ValueError(f"{name}={value!r}: {allowed}")
