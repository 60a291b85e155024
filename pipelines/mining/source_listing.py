"""Listing of the videos to mine: from a folder, a prefix of an object store, or a list of files."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.media.local_files import canonical_uri, file_fault, is_remote, local_path
from pipelines.mining.source_lists import LIST_EXTENSIONS, USAGE, SourceError, read_list

VIDEO_EXTENSIONS = frozenset(
    f".{extension}"
    for extension in (
        *("264", "265", "3g2", "3gp", "asf", "avi", "divx", "dv", "f4v", "flv", "h264", "hevc", "ivf", "m1v", "m2t"),
        *("m2ts", "m2v", "m4v", "mj2", "mkv", "mov", "mp4", "mpe", "mpeg", "mpg", "mpv", "mts", "mxf", "nut", "obu"),
        *("ogm", "ogv", "qt", "rm", "rmvb", "trp", "ts", "vob", "webm", "wmv", "wtv", "y4m"),
    )
)
"""Extensions of the files that are taken for videos in a folder or under a prefix; a list may name any file."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, order=True)
class Source:
    """Source file that has not been read yet."""

    uri: str
    """Absolute path, or URI (``canonical_uri``)."""
    size: int
    """Size in bytes; -1 for a missing file, and for one that must not be opened (``file_fault``)."""
    stamp: str
    """Entity tag, or time of the last change; if the stamp differs, the bytes may have changed."""
    licence: str | None = None
    consent: str | None = None


def list_sources(
    source: str | os.PathLike[str], filesystem: Any = None, warn: Callable[[str], None] = logger.warning
) -> list[Source]:
    """List every video of a source.

    A list file names the videos (``source_lists.read_list``); a missing file becomes a source of size -1, which fails
    without stopping the others, and so does a pipe, a socket or a device. In folders and under remote prefixes, names
    that begin with a dot are skipped. What else is passed over is counted.

    Args:
        source: A folder (recursive), a remote prefix, one video, or a list file.
        filesystem: fsspec, for remote sources.
        warn: Called with a line for each kind of what was passed over: other extensions, linked or unreadable folders.

    Returns:
        The sources, ordered by URI.

    Raises:
        SourceError: A folder is missing or has no videos, a list cannot be read, or a source is remote and no
            filesystem is given.
    """
    text = os.fspath(source)
    remote = is_remote(text)
    if remote and filesystem is None:
        scheme = text.split("://")[0]
        raise SourceError(f"{text}: no file system for {scheme}:// sources; {USAGE}")
    if text.lower().endswith(LIST_EXTENSIONS):
        sources = [stat_source(entry, filesystem) for entry in read_list(text, filesystem).to_pylist()]
    elif remote:
        sources = _list_prefix(text, filesystem, warn)
    else:
        sources = _list_folder(text, warn)
    return sorted(sources, key=lambda source: source.uri)


def _list_prefix(text: str, filesystem: Any, warn: Callable[[str], None]) -> list[Source]:
    """List the videos under a remote prefix."""
    start = text.split("://")[0] + "://"
    n_parts = len(text.removeprefix(start).strip("/").split("/"))
    found = {
        name: info
        for name, info in filesystem.find(text, detail=True).items()
        if not any(part.startswith(".") for part in name.strip("/").split("/")[n_parts:])
    }
    _warn_of_others(found, text, warn)
    videos = [info for name, info in found.items() if _is_video(name)]
    if not videos:
        raise SourceError(f"{text}: no video under this prefix; {_extensions()} are taken for videos")
    return [Source(start + info["name"], int(info["size"]), _stamp(info)) for info in videos]


def _list_folder(text: str, warn: Callable[[str], None]) -> list[Source]:
    """List the videos below a folder, or one video file."""
    root = Path(os.path.normpath(local_path(text).expanduser().absolute()))
    if root.is_file():
        if not _is_video(root.name):
            raise SourceError(f"{text}: neither a video nor a list of them; {USAGE}")
        return [stat_source({"uri": canonical_uri(str(root))}, None)]
    if not root.is_dir():
        what = "is no folder and no file" if root.exists() else "no such folder"
        raise SourceError(f"{text}: {what}; {USAGE}")
    unreadable: list[str] = []
    linked: list[str] = []
    names: list[str] = []
    for folder, folders, files in os.walk(root, onerror=lambda error: unreadable.append(str(error.filename))):
        folders[:] = [name for name in folders if not name.startswith(".")]
        linked += [f"{folder}/{name}" for name in folders if Path(folder, name).is_symlink()]
        names += [f"{folder}/{name}" for name in files if not name.startswith(".")]
    for kind, paths in (("unreadable folder", unreadable), ("linked folder", linked)):
        if paths:
            such = f"{count_of(len(paths), kind)}, such as {canonical_uri(min(paths))}"
            warn(f"{text}: passed over {such}; name them as sources")
    _warn_of_others(names, text, warn)
    sources = [stat_source({"uri": canonical_uri(name)}, None) for name in names if _is_video(name)]
    if not sources:
        raise SourceError(f"{text}: no video in this folder; {_extensions()} are taken for videos")
    return sources


def _warn_of_others(names: Iterable[str], text: str, warn: Callable[[str], None]) -> None:
    """Say how many files are passed over because of their names."""
    counts = Counter(Path(name).suffix.lower() or "no extension" for name in names if not _is_video(name))
    if counts:
        kinds = ", ".join(
            f"{canonical_uri(kind).rsplit('/', 1)[-1]} {n}"
            for kind, n in sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:5]
        )
        more = f" and {len(counts) - 5} more kinds" if len(counts) > 5 else ""
        warn(
            f"{text}: passed over {count_of(counts.total(), 'file')} whose names are not of videos ({kinds}{more}); "
            "name them in a list to mine them"
        )


def count_of(n: int, noun: str) -> str:
    """Return a number with its noun in the singular or the plural, such as ``1 file`` and ``2 files``."""
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def stat_source(entry: dict[str, Any], filesystem: Any) -> Source:
    """Look a file up.

    Args:
        entry: ``uri``, and if known ``licence`` and ``consent``.
        filesystem: fsspec, for a remote file.

    Returns:
        The entry with the size and stamp of its file; size -1 if it is missing or must not be opened.
    """
    uri = str(entry["uri"])
    size, stamp = -1, ""
    try:
        if is_remote(uri):
            info = filesystem.info(uri) if filesystem is not None else {"size": -1}
            size, stamp = int(info["size"]), _stamp(info)
        elif not file_fault(local_path(uri)):
            facts = local_path(uri).stat()
            size, stamp = facts.st_size, str(facts.st_mtime_ns)
    except (OSError, ValueError):  # ValueError: a name that no file can have
        pass
    return Source(uri, size, stamp, entry.get("licence"), entry.get("consent"))


def _stamp(info: dict[str, Any]) -> str:
    return str(info.get("ETag") or info.get("LastModified") or info.get("mtime") or "").strip('"')


def _is_video(name: str) -> bool:
    base = name.rsplit("/", 1)[-1]
    return not base.startswith(".") and Path(base).suffix.lower() in VIDEO_EXTENSIONS


def _extensions() -> str:
    return ", ".join(sorted(VIDEO_EXTENSIONS))
