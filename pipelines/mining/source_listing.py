"""What is to be mined: a folder, a prefix of an object store, or a list of files."""

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
"""Names that end so are taken for videos in a folder or under a prefix; a list names whatever it likes."""

LIST_EXTENSIONS = (".txt", ".csv", ".parquet")

_WAYS = "give a folder of videos, a video, an s3:// prefix or a list file (txt, csv, parquet)"


class SourceError(ValueError):
    """A source that gives nothing to mine; one line that names it and the way out."""


@dataclass(frozen=True, order=True)
class Source:
    """A source file, not read yet."""

    uri: str
    """Absolute path, or URI."""
    size: int
    """Bytes; -1 where a list names a file that is not there."""
    stamp: str
    """Entity tag, or time of the last change: another stamp means that the bytes may be others."""
    licence: str | None = None
    consent: str | None = None


def list_sources(source: str | os.PathLike[str], filesystem: Any = None) -> list[Source]:
    """Every video of a source, by URI: a folder (recursive), a remote prefix, one video, or a list file.

    A list is a txt (one path or URI a line, ``#`` begins a comment), csv or parquet with a column ``uri`` and, if
    known, ``licence`` and ``consent``; its relative paths start at the list's own folder, and a file in it that is not
    there becomes a source of size -1, which fails alone. Names that begin with a dot are passed over in folders.
    ``filesystem`` (fsspec) reads what is remote. Raises ``SourceError`` for a missing folder, a folder without videos,
    an empty list, a list without ``uri``, a remote source without a filesystem.
    """
    text = os.fspath(source)
    remote = is_remote(text)
    if remote and filesystem is None:
        scheme = text.split("://")[0]
        raise SourceError(f"{text}: no file system for {scheme}:// sources; {_WAYS}")
    if text.lower().endswith(LIST_EXTENSIONS):
        listed = _listed(text, filesystem)
        found = [_stat(entry, filesystem) for entry in {e["uri"]: e for e in listed}.values()]
        if not found:
            raise SourceError(f"{text}: the list names no file; write one path or URI a line, or a column 'uri'")
    elif remote:
        infos = filesystem.find(text, detail=True).values()
        start = text.split("://")[0] + "://"
        videos = [info for info in infos if _is_video(info["name"])]
        found = [Source(start + info["name"], int(info["size"]), _stamp(info)) for info in videos]
        if not found:
            raise SourceError(f"{text}: no video under this prefix; {_extensions()} are taken for videos")
    else:
        found = _in_folder(text)
    return sorted(found)


def listed_uris(source: str | os.PathLike[str], filesystem: Any = None) -> pa.Array:
    """The URIs that a list file names, as ``list_sources`` spells them, each once; no file of them is looked at.

    Raises ``SourceError`` as ``list_sources`` does for a list.
    """
    text = os.fspath(source)
    folder = text.rsplit("/", 1)[0] if is_remote(text) else local_path(text).expanduser().absolute().parent
    if text.lower().endswith(".parquet"):
        try:
            table = pq.read_table(io.BytesIO(_list_bytes(text, filesystem)), columns=["uri"])
        except (pa.ArrowInvalid, KeyError, ValueError):
            table = None  # the other reader says what is wrong with it
        if table is not None and table.column_names == ["uri"]:
            uris = pc.unique(table["uri"].cast(pa.string()).drop_null())
            uris = uris.filter(pc.not_equal(uris, ""))
            whole = pc.match_substring_regex(uris, "^[a-z0-9]+://|^/([^/.][^/]*/)*[^/.][^/]*$")
            whole = pc.and_(whole, pc.invert(pc.starts_with(uris, "file://")))
            if pc.all(whole).as_py():
                return uris
            return pc.unique(pa.array([_absolute(uri, folder) for uri in uris.to_pylist()], pa.string()))
    return pc.unique(pa.array([str(row["uri"]) for row in _listed(text, filesystem)], pa.string()))


def _in_folder(text: str) -> list[Source]:
    root = local_path(text).expanduser().absolute()
    if root.is_file():
        if not _is_video(root.name):
            raise SourceError(f"{text}: neither a video nor a list of them; {_WAYS}")
        return [_stat({"uri": str(root)}, None)]
    if not root.is_dir():
        raise SourceError(f"{text}: no such folder; {_WAYS}")
    found = []
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [_stat({"uri": str(Path(folder) / name)}, None) for name in names if _is_video(name)]
    if not found:
        raise SourceError(f"{text}: no video in this folder; {_extensions()} are taken for videos")
    return found


def _listed(text: str, filesystem: Any) -> list[dict[str, str | None]]:
    """Rows of a list file: uri (absolute), licence, consent."""
    data = _list_bytes(text, filesystem)
    try:
        rows = _parsed(data, text.lower())
    except (UnicodeDecodeError, pa.ArrowInvalid, csv.Error) as error:
        raise SourceError(f"{text}: cannot be read as a list ({str(error).splitlines()[0][:120]})") from error
    if rows and "uri" not in rows[0]:
        columns = sorted(map(str, rows[0]))
        raise SourceError(f"{text}: the list has columns {columns}; it needs 'uri' (and may have 'licence', 'consent')")
    folder = text.rsplit("/", 1)[0] if is_remote(text) else local_path(text).expanduser().absolute().parent
    return [
        {"uri": _absolute(str(row["uri"]), folder), **{name: row.get(name) or None for name in ("licence", "consent")}}
        for row in rows
        if row["uri"]
    ]


def _list_bytes(text: str, filesystem: Any) -> bytes:
    try:
        return filesystem.cat_file(text) if is_remote(text) else local_path(text).expanduser().read_bytes()
    except FileNotFoundError:
        raise SourceError(f"{text}: no such list; {_WAYS}") from None


def _parsed(data: bytes, name: str) -> list[dict[str, Any]]:
    if name.endswith(".parquet"):
        return pq.read_table(io.BytesIO(data)).to_pylist()
    text = data.decode("utf-8-sig")
    if name.endswith(".csv"):
        return list(csv.DictReader(io.StringIO(text)))
    lines = (line.strip() for line in text.splitlines())
    return [{"uri": line} for line in lines if line and not line.startswith("#")]


def _absolute(uri: str, folder: str | Path) -> str:
    if is_remote(uri):
        return uri
    if isinstance(folder, str):
        return f"{folder}/{uri}"
    return os.path.normpath(folder / local_path(uri).expanduser())


def _stat(entry: dict[str, str | None], filesystem: Any) -> Source:
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
