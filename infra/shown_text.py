"""Text as a terminal, a log or a database may have it: secrets masked, control characters spelled out."""

from __future__ import annotations

import logging
import sys
import threading
import traceback
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mfhq.masking import mask_secrets

_KEPT = frozenset("\n\t")
_HARMFUL = frozenset({"Cc", "Cs", "Zl", "Zp"})
"""Unicode categories that change a terminal's state or end a line: control characters, halves of pairs, separators."""
_BIDIRECTIONAL = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Marks that change the order in which a line is shown, so that a name looks like another one."""


def shown_text(text: str) -> str:
    """Return a text with its secrets masked (``mfhq.masking``) and its control characters spelled out.

    A control character becomes ``\\x1b`` or ``\\u202e``, a byte of a file name that is no text ``\\xff``; line feeds
    and tabs stay.
    """
    text = mask_secrets(text)
    if text.isascii() and text.isprintable():
        return text
    return "".join(_spelled(c) if _is_harmful(c) else c for c in text)


def _is_harmful(character: str) -> bool:
    if character in _KEPT:
        return False
    return unicodedata.category(character) in _HARMFUL or character in _BIDIRECTIONAL


def _spelled(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # Python's stand-in for a byte that is no UTF-8
        code -= 0xDC00
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def mask_logs() -> None:
    """Treat every later log record and uncaught exception of this process with ``shown_text``, whatever handles it."""
    if getattr(logging.getLogRecordFactory(), "masks", False):
        return
    make = logging.getLogRecordFactory()

    def make_masked(*args: Any, **named: Any) -> logging.LogRecord:
        record = make(*args, **named)
        try:
            record.msg, record.args = shown_text(record.getMessage()), None
        except Exception:  # wrong arguments of a log call; logging reports these itself
            return record
        if record.exc_info and record.exc_info[1] is not None:
            record.exc_text = shown_text("".join(traceback.format_exception(record.exc_info[1]))).rstrip()
        return record

    make_masked.masks = True  # type: ignore[attr-defined]
    logging.setLogRecordFactory(make_masked)
    if sys.excepthook is sys.__excepthook__:
        sys.excepthook = lambda kind, error, trace: _print_masked(error)
    if threading.excepthook is threading.__excepthook__:
        threading.excepthook = lambda args: _print_masked(args.exc_value)


def _print_masked(error: BaseException | None) -> None:
    if error is not None and not isinstance(error, SystemExit):
        sys.stderr.write(shown_text("".join(traceback.format_exception(error))))


@contextmanager
def masked_errors() -> Iterator[None]:
    """Mask the secrets in the message of an error that leaves the block; also a decorator.

    Prefect and MLflow store the message of an error that ends a run. The error's class and traceback stay.
    """
    try:
        yield
    except Exception as error:
        _mask_error(error)
        if mask_secrets(str(error)) != str(error):  # a class that makes its message otherwise
            raise RuntimeError(mask_secrets(f"{type(error).__name__}: {error}")) from None
        raise


def _mask_error(error: BaseException) -> None:
    """Mask the texts in an error, and in the errors behind it."""
    seen: set[int] = set()
    behind: BaseException | None = error
    while behind is not None and id(behind) not in seen:
        seen.add(id(behind))
        behind.args = tuple(mask_secrets(a) if isinstance(a, str) else a for a in behind.args)
        for name, value in list(vars(behind).items()):
            if isinstance(value, str):
                vars(behind)[name] = mask_secrets(value)
        if isinstance(behind, OSError) and isinstance(behind.filename, str):
            behind.filename = mask_secrets(behind.filename)
        behind = behind.__cause__ or behind.__context__
