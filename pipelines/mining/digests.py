"""The ``video_id`` of every source: the sha256 of its bytes, computed once and cached in the corpus."""

from __future__ import annotations

import io
import logging
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mfhq.ids import digest, digest_file
from mfhq.store import Store
from mfhq.takedowns import DenyList, read_deny_list
from pipelines.media.local_files import is_remote, local_path
from pipelines.media.source_copies import SourceCopies
from pipelines.mining.schemas import SOURCES
from pipelines.mining.source_listing import Source, stat_source
from pipelines.mining.source_lists import SourceError

CACHE_PREFIX = "cache/digests"
"""Folder, in a corpus, of the cache that maps (uri, size, stamp) to video_id.

Its files are named after their content, so that runs at the same time do not disturb each other.
"""

CACHED = pa.schema([("uri", pa.string()), ("size", pa.int64()), ("stamp", pa.string()), ("video_id", pa.string())])
"""Schema of the cache."""

logger = logging.getLogger(__name__)

_Digests = dict[tuple[str, int, str], str]
"""(uri, size, stamp) -> video_id."""

Run = Callable[[Callable[[list[Source]], _Digests], Sequence[list[Source]]], Iterable[_Digests]]
"""Function that calls a function on each group of files, and returns the results in any order."""

THREADS = 4
"""Number of files that a process reads at the same time."""

GROUP_FILES, GROUP_BYTES, GROUPS = 1000, 8 << 30, 16
"""Upper bounds on the files and bytes that are read before their digests are cached, and the least number of groups."""


def digest_sources(
    sources: Sequence[Source],
    store: Store,
    filesystem: Any = None,
    *,
    denied: DenyList | None = None,
    run: Run | None = None,
) -> pa.Table:
    """Determine the ``video_id`` of each source; files with the same bytes become one row.

    If the corpus's cache has the (uri, size, stamp) of a file, its digest is read from there; other digests are
    computed and cached. A file that cannot be read gets size -1 and an id computed from its URI, so that it fails as a
    separate row.

    Args:
        sources: The files.
        store: The corpus that holds the cache.
        filesystem: fsspec, for remote files.
        denied: Take-downs; the digests of files that they name are not cached.
        run: Reads the files by groups, for example on Ray; by default this process does. A group is cached when it has
            been read.

    Returns:
        ``SOURCES`` rows ordered by ``video_id``; of files with the same bytes, the one with the lowest URI.

    Raises:
        SourceError: Files with the same bytes have other licences or consents.
    """
    known = known_digests(store)
    pending = [s for s in sources if s.size >= 0 and (s.uri, s.size, s.stamp) not in known]
    reader = partial(_digest_files, store, filesystem, denied)
    groups = _group_files(pending)
    for fresh in (run or map)(reader, groups):
        known |= fresh
    rows: dict[str, dict[str, Any]] = {}
    for source in sorted(sources):
        video_id = known.get((source.uri, source.size, source.stamp)) if source.size >= 0 else None
        size = source.size if video_id else -1
        video_id = video_id or digest(["unreachable", source.uri], 64)
        if video_id in rows:
            combine_terms(rows[video_id], {"uri": source.uri, "licence": source.licence, "consent": source.consent})
            logger.info("%s has the same bytes as %s", source.uri, rows[video_id]["uri"])
            continue
        rows[video_id] = {
            "video_id": video_id,
            "uri": source.uri,
            "size": size,
            "licence": source.licence,
            "consent": source.consent,
        }
    return pa.Table.from_pylist([rows[video_id] for video_id in sorted(rows)], schema=SOURCES)


def combine_terms(kept: dict[str, Any], other: dict[str, Any]) -> None:
    """Give a source the licence and consent of another file of the same bytes, where it has none.

    Args:
        kept: ``SOURCES`` row that stands for both, which is changed.
        other: URI, licence and consent of the other file.

    Raises:
        SourceError: The two contradict each other.
    """
    for name in ("licence", "consent"):
        if kept[name] is None:
            kept[name] = other[name]
        elif other[name] is not None and other[name] != kept[name]:
            raise SourceError(
                f"{kept['uri']} and {other['uri']} have the same bytes, and {name} {kept[name]!r} and {other[name]!r}; "
                "make them agree in the list"
            )


def sources_to_mine(
    listed: Sequence[Source], store: Store, filesystem: Any = None, run: Run | None = None
) -> tuple[pa.Table, int]:
    """Digest the sources and leave out those that take-downs name.

    A file whose URI a take-down names is not even read.

    Args:
        listed: The files of a source, as ``list_sources`` returns them.
        store: The corpus.
        filesystem: fsspec, for remote files.
        run: As in ``digest_sources``.

    Returns:
        (``SOURCES`` rows, number of sources that were left out).
    """
    denied = read_deny_list(store)
    allowed = [source for source in listed if not denied.names(source.uri)]
    digested = digest_sources(allowed, store, filesystem, denied=denied, run=run)
    is_mined = [not denied.blocks_mining(video) for video in digested["video_id"].to_pylist()]
    sources = digested.filter(pa.array(is_mined, pa.bool_()))
    return sources, len(listed) - len(allowed) + digested.num_rows - sources.num_rows


def find_merged(listed: Sequence[Source], sources: pa.Table, store: Store) -> list[tuple[str, str]]:
    """Find the files that were merged with others of the same bytes, by the corpus's cache.

    Args:
        listed: The files of a source.
        sources: ``SOURCES`` rows that stand for them.
        store: The corpus.

    Returns:
        URI of each merged file, and URI of the file whose row stands for both.
    """
    uri_of = dict(zip(sources["video_id"].to_pylist(), sources["uri"].to_pylist(), strict=True))
    if len(uri_of) == len(listed):
        return []
    known = known_digests(store)
    kept = ((s.uri, uri_of.get(known.get((s.uri, s.size, s.stamp), ""))) for s in sorted(listed))
    return [(uri, other) for uri, other in kept if other is not None and other != uri]


def look_again(sources: pa.Table, store: Store, filesystem: Any = None) -> pa.Table:
    """Look up again the sources that could not be read; one that is there now gets the id of its bytes.

    Args:
        sources: ``SOURCES`` rows.
        store: The corpus.
        filesystem: fsspec, for remote files.

    Returns:
        ``SOURCES`` rows: those that were read, unchanged, and the others as they are found now, unless a take-down
        names them.
    """
    is_read = pc.greater_equal(sources["size"], 0)
    unread = [stat_source(row, filesystem) for row in sources.filter(pc.invert(is_read)).to_pylist()]
    if not unread:
        return sources
    found, _ = sources_to_mine(unread, store, filesystem)
    read = sources.filter(is_read)
    known = pc.is_in(found["video_id"], value_set=read["video_id"].combine_chunks())
    return pa.concat_tables([read, found.filter(pc.invert(known))])


def drop_superseded_failures(recorded: pa.Table) -> pa.Table:
    """Drop the ``SOURCES`` row of an unreadable file if another row with its URI is of a readable file."""
    is_read = pc.greater_equal(recorded["size"], 0)
    uris = recorded.filter(is_read)["uri"].combine_chunks()
    return recorded.filter(pc.or_(is_read, pc.invert(pc.is_in(recorded["uri"], value_set=uris))))


def known_digests(store: Store) -> _Digests:
    """Return the corpus's cache as a dictionary, (uri, size, stamp) -> video_id."""
    columns = (cached_digests(store)[name].to_pylist() for name in CACHED.names)
    return {(uri, size, stamp): video_id for uri, size, stamp, video_id in zip(*columns, strict=True)}


def cached_digests(store: Store) -> pa.Table:
    """Read the corpus's cache (``CACHED``)."""
    with ThreadPoolExecutor(8) as pool:
        tables = list(pool.map(lambda path: pq.read_table(io.BytesIO(store.read(path))), store.list(CACHE_PREFIX)))
    return pa.concat_tables([CACHED.empty_table(), *(table.select(CACHED.names).cast(CACHED) for table in tables)])


def _write_cache(store: Store, fresh: _Digests) -> None:
    if not fresh:
        return
    rows = [dict(zip(CACHED.names, (*key, video_id), strict=True)) for key, video_id in sorted(fresh.items())]
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema=CACHED), buffer, compression="zstd")
    store.create(f"{CACHE_PREFIX}/{digest([list(row.values()) for row in rows], 24)}.parquet", buffer.getvalue())


def _group_files(files: Sequence[Source]) -> list[list[Source]]:
    """Divide files into groups, each of which is read by one process."""
    most = max(1, min(GROUP_FILES, -(-len(files) // GROUPS)))
    groups, n_bytes = list[list[Source]](), 0
    for source in files:
        if not groups or len(groups[-1]) >= most or n_bytes + source.size > GROUP_BYTES:
            groups.append([])
            n_bytes = 0
        groups[-1].append(source)
        n_bytes += source.size
    return groups


def _digest_files(store: Store, filesystem: Any, denied: DenyList | None, files: list[Source]) -> _Digests:
    """Read files and cache their digests."""
    with ThreadPoolExecutor(THREADS) as pool:
        digests = pool.map(lambda s: _digest_source(s, filesystem), files)
        fresh = {(s.uri, s.size, s.stamp): d for s, d in zip(files, digests, strict=True) if d}
    _write_cache(store, {key: d for key, d in fresh.items() if not (denied and denied.names(d))})
    return fresh


def _digest_source(source: Source, filesystem: Any) -> str | None:
    """Return the sha256 of a file's bytes; None if it cannot be read. A copy of a remote file is kept for a while."""
    try:
        if is_remote(source.uri):
            return SourceCopies(filesystem).fetch(source.uri)
        with local_path(source.uri).open("rb") as stream:
            return digest_file(stream, os.fstat(stream.fileno()).st_size)
    except OSError as error:
        logger.warning("%s cannot be read: %s", source.uri, error)
        return None
