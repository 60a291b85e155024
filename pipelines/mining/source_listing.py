"""Listing of the videos to mine: from a folder, a prefix of an object store, or a list of files."""

from __future__ import annotations

import csv
import io
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipelines.media.local_files import is_remote, local_path

VIDEO_EXTENSIONS = frozenset(
    f".{extension}"
    for extension in (
        *("3gp", "asf", "avi", "flv", "m2ts", "m4v", "mkv", "mov", "mp4", "mpeg", "mpg", "mts", "mxf", "ogv", "ts"),
        *("vob", "webm", "wmv"),
    )
)
"""Extensions of the files that are taken for videos in a folder or under a prefix; a list may name any file."""

LIST_EXTENSIONS = (".txt", ".csv", ".parquet")

_USAGE = "give a folder of videos, a video, an s3:// prefix or a list file (txt, csv, parquet)"


class SourceError(ValueError):
    """Source with nothing to mine; the message is one line that names the source and the remedy."""


@dataclass(frozen=True, order=True)
class Source:
    """Source file that has not been read yet."""

    uri: str
    """Absolute path, or URI."""
    size: int
    """Size in bytes; -1 for a missing file that a list names."""
    stamp: str
    """Entity tag, or time of the last change; if the stamp differs, the bytes may have changed."""
    licence: str | None = None
    consent: str | None = None


def list_sources(source: str | os.PathLike[str], filesystem: Any = None) -> list[Source]:
    """List every video of a source.

    A list file is a txt (one path or URI per line; a line that begins with ``#`` is a comment), or a csv or parquet
    with a column ``uri`` and, if known, ``licence`` and ``consent``. Relative paths in it start at the list's folder. A
    missing file of a list becomes a source of size -1, which fails without stopping the others. In folders, names that
    begin with a dot are skipped.

    Args:
        source: A folder (recursive), a remote prefix, one video, or a list file.
        filesystem: fsspec, for remote sources.

    Returns:
        The sources, ordered by URI.

    Raises:
        SourceError: A folder is missing or has no videos, a list is empty or has no column ``uri``, or a source is
            remote and no filesystem is given.
    """
    text = os.fspath(source)
    remote = is_remote(text)
    if remote and filesystem is None:
        scheme = text.split("://")[0]
        raise SourceError(f"{text}: no file system for {scheme}:// sources; {_USAGE}")
    if text.lower().endswith(LIST_EXTENSIONS):
        entries = {entry["uri"]: entry for entry in _read_list(text, filesystem)}
        sources = [_stat_source(entry, filesystem) for entry in entries.values()]
        if not sources:
            raise SourceError(f"{text}: the list names no file; write one path or URI a line, or a column 'uri'")
    elif remote:
        infos = filesystem.find(text, detail=True).values()
        start = text.split("://")[0] + "://"
        videos = [info for info in infos if _is_video(info["name"])]
        sources = [Source(start + info["name"], int(info["size"]), _stamp(info)) for info in videos]
        if not sources:
            raise SourceError(f"{text}: no video under this prefix; {_extensions()} are taken for videos")
    else:
        sources = _list_folder(text)
    return sorted(sources)


def listed_uris(source: str | os.PathLike[str], filesystem: Any = None) -> pa.Array:
    """Return the URIs that a list file names; none of these files is opened.

    Args:
        source: A list file.
        filesystem: fsspec, for a remote list.

    Returns:
        The URIs as ``list_sources`` spells them, each once, in the order of the list.

    Raises:
        SourceError: The list cannot be read (``list_sources``).
    """
    text = os.fspath(source)
    if text.lower().endswith(".parquet"):
        try:
            table = pq.read_table(io.BytesIO(_list_bytes(text, filesystem)), columns=["uri"])
        except (pa.ArrowInvalid, KeyError, ValueError):
            table = None  # `_read_list` below raises an error that names the problem
        if table is not None and table.column_names == ["uri"]:
            uris = pc.unique(table["uri"].cast(pa.string()).drop_null())
            uris = uris.filter(pc.not_equal(uris, ""))
            is_absolute = pc.match_substring_regex(uris, "^[a-z0-9]+://|^/([^/.][^/]*/)*[^/.][^/]*$")
            is_absolute = pc.and_(is_absolute, pc.invert(pc.starts_with(uris, "file://")))
            if pc.all(is_absolute).as_py():
                return uris
            folder = _folder_of(text)
            return pc.unique(pa.array([_absolute_uri(uri, folder) for uri in uris.to_pylist()], pa.string()))
    return pc.unique(pa.array([str(row["uri"]) for row in _read_list(text, filesystem)], pa.string()))


def _list_folder(text: str) -> list[Source]:
    """List the videos below a folder, or one video file."""
    root = local_path(text).expanduser().absolute()
    if root.is_file():
        if not _is_video(root.name):
            raise SourceError(f"{text}: neither a video nor a list of them; {_USAGE}")
        return [_stat_source({"uri": str(root)}, None)]
    if not root.is_dir():
        raise SourceError(f"{text}: no such folder; {_USAGE}")
    sources = []
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if not name.startswith(".")]
        sources += [_stat_source({"uri": str(Path(folder) / name)}, None) for name in names if _is_video(name)]
    if not sources:
        raise SourceError(f"{text}: no video in this folder; {_extensions()} are taken for videos")
    return sources


def _read_list(text: str, filesystem: Any) -> list[dict[str, str | None]]:
    """Read the rows of a list file: uri (absolute), licence, consent."""
    data = _list_bytes(text, filesystem)
    try:
        rows = _parse_list(data, text.lower())
    except (UnicodeDecodeError, pa.ArrowInvalid, csv.Error) as error:
        raise SourceError(f"{text}: cannot be read as a list ({str(error).splitlines()[0][:120]})") from error
    if rows and "uri" not in rows[0]:
        columns = sorted(map(str, rows[0]))
        raise SourceError(f"{text}: the list has columns {columns}; it needs 'uri' (and may have 'licence', 'consent')")
    folder = _folder_of(text)
    return [
        {
            "uri": _absolute_uri(str(row["uri"]), folder),
            **{name: row.get(name) or None for name in ("licence", "consent")},
        }
        for row in rows
        if row["uri"]
    ]


def _list_bytes(text: str, filesystem: Any) -> bytes:
    try:
        return filesystem.cat_file(text) if is_remote(text) else local_path(text).expanduser().read_bytes()
    except FileNotFoundError:
        raise SourceError(f"{text}: no such list; {_USAGE}") from None


def _parse_list(data: bytes, name: str) -> list[dict[str, Any]]:
    if name.endswith(".parquet"):
        return pq.read_table(io.BytesIO(data)).to_pylist()
    text = data.decode("utf-8-sig")
    if name.endswith(".csv"):
        return list(csv.DictReader(io.StringIO(text)))
    lines = (line.strip() for line in text.splitlines())
    return [{"uri": line} for line in lines if line and not line.startswith("#")]


def _folder_of(text: str) -> str | Path:
    """Return the folder of a list file: a URI of a remote list, an absolute path of a local one."""
    return text.rsplit("/", 1)[0] if is_remote(text) else local_path(text).expanduser().absolute().parent


def _absolute_uri(uri: str, folder: str | Path) -> str:
    if is_remote(uri):
        return uri
    if isinstance(folder, str):
        return f"{folder}/{uri}"
    return os.path.normpath(folder / local_path(uri).expanduser())


def _stat_source(entry: dict[str, str | None], filesystem: Any) -> Source:
    """Return a list entry with the size and stamp of its file; size -1 for a missing file."""
    uri = str(entry["uri"])
    size, stamp = -1, ""
    try:
        if is_remote(uri):
            if filesystem is None:
                raise SourceError(f"{uri}: no file system for this source; list local files, or one store's")
            info = filesystem.info(uri)
            size, stamp = int(info["size"]), _stamp(info)
        else:
            facts = Path(uri).stat()
            size, stamp = facts.st_size, str(facts.st_mtime_ns)
    except OSError:
        pass
    return Source(uri, size, stamp, entry.get("licence"), entry.get("consent"))


def _stamp(info: dict[str, Any]) -> str:
    return str(info.get("ETag") or info.get("LastModified") or info.get("mtime") or "").strip('"')


def _is_video(name: str) -> bool:
    base = name.rsplit("/", 1)[-1]
    return not base.startswith(".") and Path(base).suffix.lower() in VIDEO_EXTENSIONS


def _extensions() -> str:
    return ", ".join(sorted(VIDEO_EXTENSIONS))
