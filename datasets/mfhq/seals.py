"""Seals of small files: a JSON or Parquet file of the corpus contains the sha256 of the rest of it.

Files that a manifest or a marker names have their digest there. Manifests, markers, records, source rows, decisions and
the ledger are named nowhere; they are sealed. Files of earlier versions have no seal, and are read without one.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any, TypeVar

from mfhq.store import StoreError

Record = TypeVar("Record")

KEY = "seal"
"""Key of a JSON file's seal."""
PARQUET_KEY = b"ffavatar.seal"
"""Key of a Parquet file's seal, in the metadata of its footer."""
UNSEALED = b"0" * 64
"""Value of a Parquet file's seal while the digest is computed."""

_IN_FOOTER = re.compile(re.escape(PARQUET_KEY) + rb"\x18\x40([0-9a-f]{64})")
"""Key and value in Thrift's compact protocol: the field's header and the length stand between them."""


class DamagedFileError(StoreError):
    """Error of a file whose bytes are not those that were written; the message has the file and the way out."""


def seal_json(row: Mapping[str, Any], sort_keys: bool = False) -> bytes:
    """Return a JSON document with its seal.

    Args:
        row: Contents of the document.
        sort_keys: Sort the keys.
    """
    plain = json.loads(json.dumps(row, default=str))
    return json.dumps({**plain, KEY: _digest(plain)}, indent=1, sort_keys=sort_keys).encode()


def open_json(data: bytes, where: str, remedy: str) -> dict[str, Any]:
    """Return the contents of a JSON document, without its seal.

    Args:
        data: The document, with a seal or, of an earlier version, without one.
        where: URI of the file, for the error.
        remedy: What to do if it is damaged, for the error.

    Raises:
        DamagedFileError: It is no JSON object, or its seal is that of another content.
    """
    try:
        row = json.loads(data)
    except (ValueError, RecursionError):
        row = None
    if not isinstance(row, dict) or row.pop(KEY, None) not in (None, _digest(row)):
        raise DamagedFileError(f"{where}: is damaged (not the document that was written); {remedy}")
    return row


def open_record(cls: type[Record], data: bytes, where: str, remedy: str) -> Record:
    """Return the dataclass whose fields a JSON document holds; lists become tuples.

    Args:
        cls: The dataclass.
        data: The document, as for ``open_json``.
        where: URI of the file, for the error.
        remedy: What to do if it is damaged, for the error.

    Raises:
        DamagedFileError: It is not the document that was written, or its fields are not those of the dataclass.
    """
    row = open_json(data, where, remedy)
    listed = {name: tuple(value) for name, value in row.items() if isinstance(value, list)}
    try:
        return cls(**{**row, **listed})
    except TypeError as error:
        raise DamagedFileError(f"{where}: is damaged (no {cls.__name__}: {error}); {remedy}") from error


def _digest(row: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(row, sort_keys=True).encode()).hexdigest()


def seal_parquet(data: bytes) -> bytes:
    """Return a Parquet file with its seal.

    Args:
        data: A file whose footer has the metadata ``PARQUET_KEY`` with the value ``UNSEALED``.
    """
    place, digest = _parquet_digest(data) or (None, "")
    if place is None:
        raise ValueError("a Parquet file without a place for its seal")
    return data[: place.start(1)] + digest.encode() + data[place.end(1) :]


def has_seal(data: bytes) -> bool:
    """Return True if a Parquet file has a seal."""
    return _find(data) is not None


def check_parquet(data: bytes, where: str, remedy: str) -> bytes:
    """Return a Parquet file's bytes if its seal is right, or if it has none.

    Args:
        data: The file.
        where: URI of the file, for the error.
        remedy: What to do if it is damaged, for the error.

    Raises:
        DamagedFileError: The seal is that of another content.
    """
    found = _parquet_digest(data)
    if found and found[0][1] != found[1].encode():
        raise DamagedFileError(f"{where}: is damaged (not the rows that were written); {remedy}")
    return data


def _find(data: bytes) -> re.Match[bytes] | None:
    matches = list(_IN_FOOTER.finditer(data, max(0, len(data) - int.from_bytes(data[-8:-4], "little") - 8)))
    return matches[-1] if matches else None


def _parquet_digest(data: bytes) -> tuple[re.Match[bytes], str] | None:
    """Return the place of a file's seal, and the digest of the file with ``UNSEALED`` there."""
    if (place := _find(data)) is None:
        return None
    whole, view = hashlib.sha256(), memoryview(data)
    for part in (view[: place.start(1)], UNSEALED, view[place.end(1) :]):
        whole.update(part)
    return place, whole.hexdigest()
