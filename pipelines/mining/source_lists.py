"""Reading of list files: the sources that a txt, csv or parquet file names, with their licence and consent."""

from __future__ import annotations

import csv
import io
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipelines.media.local_files import canonical_uri, is_remote, local_path

LIST_EXTENSIONS = (".txt", ".csv", ".parquet")
"""Extensions of list files."""

LISTED = pa.schema([("uri", pa.string()), ("licence", pa.string()), ("consent", pa.string())])
"""Schema of a list that was read: one row a source."""

USAGE = "give a folder of videos, a video, an s3:// prefix or a list file (txt, csv, parquet)"

_SPELLINGS = {"license": "licence"}
_CANONICAL = "^[a-z0-9]+://|^/([^/.][^/]*/)*[^/.][^/]*$"
"""URIs that ``canonical_uri`` would not change, except ``file://`` URIs; others are changed one by one."""


class SourceError(ValueError):
    """Source with nothing to mine; the message is one line that names the source and the remedy."""


def read_list(source: str | os.PathLike[str], filesystem: Any = None) -> pa.Table:
    """Read a list file; none of the files that it names is opened.

    A txt has one path or URI a line; a line that begins with ``#`` is a comment. A csv or parquet has a column ``uri``
    and may have ``licence`` (or ``license``) and ``consent``; capitals and spaces in headers do not matter. A column of
    booleans is read as yes and no. Relative paths start at the list's folder.

    Args:
        source: The list file.
        filesystem: fsspec, for a remote list.

    Returns:
        ``LISTED`` rows, each URI once, canonical (``canonical_uri``), in the order of the list.

    Raises:
        SourceError: The list cannot be read, names no file or a file of another store, or its rows contradict each
            other.
    """
    text = os.fspath(source)
    try:
        columns = _parse_list(_list_bytes(text, filesystem), text.lower())
        table = _to_text(_known_columns(columns), _folder_of(text))
        table = _merge_rows(table)
    except (UnicodeError, OSError, pa.ArrowException, csv.Error) as error:  # OSError: a damaged Parquet page
        raise SourceError(f"{text}: cannot be read as a list ({str(error).splitlines()[0][:120]})") from error
    except _ListFault as fault:
        raise SourceError(f"{text}: {fault}") from None
    if not table.num_rows:
        raise SourceError(f"{text}: the list names no file; write one path or URI a line, or a column 'uri'")
    _check_stores(text, table["uri"], filesystem)
    return table


class _ListFault(ValueError):
    """Fault of a list; the message lacks the list's name."""


def _list_bytes(text: str, filesystem: Any) -> bytes:
    try:
        return filesystem.cat_file(text) if is_remote(text) else local_path(text).expanduser().read_bytes()
    except FileNotFoundError:
        raise SourceError(f"{text}: no such list; {USAGE}") from None
    except OSError as error:
        raise SourceError(f"{text}: the list cannot be read ({error.strerror}); {USAGE}") from None


def _parse_list(data: bytes, name: str) -> pa.Table:
    """Return the columns of a list as they are written; names that are not UTF-8 as binary."""
    if name.endswith(".parquet"):
        return pq.read_table(io.BytesIO(data))
    encoding = "utf-16" if data.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"
    text = data.decode(encoding, "surrogateescape")
    if not name.endswith(".csv"):
        lines = (line.strip(" \t\r") for line in text.split("\n"))  # other line ends may stand in a file's name
        rows = [[line] for line in lines if line and not line.startswith("#")]
        header = ["uri"]
    else:
        header, *rows = [*csv.reader(io.StringIO(text, newline=""), skipinitialspace=True)] or [["uri"]]
    for number, row in enumerate(rows, 2):
        if len(row) > len(header):
            raise _ListFault(f"row {number} has {len(row)} values for {len(header)} columns; put quotes around commas")
    filled = [row + [""] * (len(header) - len(row)) for row in rows]
    columns = zip(*filled, strict=True) if filled else [() for _ in header]
    return pa.table([pa.array(map(os.fsencode, column), pa.binary()) for column in columns], names=header)


def _known_columns(table: pa.Table) -> pa.Table:
    """Return the columns that a list may have, under the names of ``LISTED``."""
    names = [_SPELLINGS.get(name.strip().lower(), name.strip().lower()) for name in table.column_names]
    for name in LISTED.names:
        if names.count(name) > 1:
            raise _ListFault(f"the list has two columns {name!r} among {table.column_names}; keep one")
    if "uri" not in names:
        columns = sorted(table.column_names)
        raise _ListFault(f"the list has columns {columns}; it needs 'uri' (and may have 'licence', 'consent')")
    return table.rename_columns(names).select([name for name in LISTED.names if name in names])


def _to_text(table: pa.Table, folder: str | Path) -> pa.Table:
    """Return ``LISTED`` rows with canonical URIs, without the rows that name nothing."""
    raw = _plain(table["uri"])
    if not (pa.types.is_string(raw.type) or pa.types.is_binary(raw.type)):
        raise _ListFault(f"column 'uri' holds {raw.type}; write paths or URIs")
    named = pc.fill_null(pc.greater(pc.binary_length(raw), 0), False)
    rights = [
        _rights(table[name], name) if name in table.column_names else pa.nulls(table.num_rows, pa.string())
        for name in LISTED.names[1:]
    ]
    columns = [_canonical(raw.filter(named), folder), *(column.filter(named) for column in rights)]
    return pa.table(columns, schema=LISTED)


def _plain(column: pa.ChunkedArray) -> pa.Array:
    """Return a column as one array, without dictionary and with 32-bit offsets."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    kinds = {pa.large_string(): pa.string(), pa.string_view(): pa.string(), pa.large_binary(): pa.binary()}
    column = column.cast(kinds.get(column.type, column.type))
    return column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)


def _rights(column: pa.ChunkedArray, name: str) -> pa.Array:
    """Return a column of licences or consents as text; null for nothing written."""
    plain = _plain(column)
    if pa.types.is_boolean(plain.type):
        return pc.if_else(plain, "yes", "no")
    if not any(test(plain.type) for test in (pa.types.is_string, pa.types.is_binary, pa.types.is_null)):
        raise _ListFault(f"column {name!r} holds {plain.type}; write text")
    text = pc.utf8_trim_whitespace(plain.cast(pa.string()))
    return pc.if_else(pc.equal(text, ""), None, text)


def _canonical(raw: pa.Array, folder: str | Path) -> pa.Array:
    """Return the canonical URIs of names; those that are canonical already cost next to nothing."""
    if pa.types.is_string(raw.type):
        is_canonical = pc.match_substring_regex(raw, _CANONICAL)
        if pc.all(pc.and_(is_canonical, pc.invert(pc.starts_with(raw, "file://")))).as_py():
            return raw
    names = (name if isinstance(name, str) else os.fsdecode(name) for name in raw.to_pylist())
    return pa.array([canonical_uri(name, folder) for name in names], pa.string())


def _merge_rows(table: pa.Table) -> pa.Table:
    """Return one row a URI; what one of its rows does not say is taken from the others."""
    uris = pc.unique(table["uri"])
    if len(uris) == table.num_rows:
        return table
    merged = [uris]
    for name in LISTED.names[1:]:
        said = table.select(["uri", name]).append_column("row", pa.array(range(1, table.num_rows + 1)))
        said = said.filter(pc.is_valid(said[name]))
        by_uri = said.group_by("uri", use_threads=False).aggregate([(name, "min"), (name, "max")])
        differing = by_uri.filter(pc.not_equal(by_uri[f"{name}_min"], by_uri[f"{name}_max"]))
        if differing.num_rows:
            _raise_contradiction(said.filter(pc.equal(said["uri"], differing["uri"][0])), name)
        merged.append(by_uri[f"{name}_min"].combine_chunks().take(pc.index_in(uris, by_uri["uri"].combine_chunks())))
    return pa.table(merged, schema=LISTED)


def _raise_contradiction(said: pa.Table, name: str) -> None:
    first, *others = said.to_pylist()
    other = next(row for row in others if row[name] != first[name])
    raise _ListFault(
        f"rows {first['row']} and {other['row']} contradict each other about {first['uri']}: {name} {first[name]!r} "
        f"and {other[name]!r}; keep one"
    )


def _check_stores(text: str, uris: pa.ChunkedArray, filesystem: Any) -> None:
    """Raise if a list names a file of a store that ``filesystem`` does not reach."""
    protocols = getattr(filesystem, "protocol", ()) or ()
    reached = (protocols,) if isinstance(protocols, str) else tuple(protocols)
    for scheme in pc.unique(pc.struct_field(pc.extract_regex(uris, "^(?P<scheme>[^/:]*)://"), 0)).to_pylist():
        if scheme not in (None, "file", *reached):
            uri = uris.filter(pc.starts_with(uris, f"{scheme}://"))[0].as_py()
            raise SourceError(f"{text}: no file system for {uri}; list local files, or put the list into that store")


def _folder_of(text: str) -> str | Path:
    """Return the folder of a list file: a URI of a remote list, an absolute path of a local one."""
    return text.rsplit("/", 1)[0] if is_remote(text) else local_path(text).expanduser().absolute().parent
