"""The ``video_id`` of every source: sha256 of its bytes, read once and remembered."""

from __future__ import annotations

import io
import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mfhq.ids import digest, digest_file
from mfhq.store import Store
from mfhq.takedowns import Denied, denied_by_all
from pipelines.media.local_files import is_remote, local_path
from pipelines.mining.schemas import SOURCES
from pipelines.mining.source_listing import Source

CACHE_PREFIX = "cache/digests"
"""Where a corpus remembers (uri, size, stamp) -> video_id: files named after what is in them, so that two runs at
once do each other no harm."""

CACHED = pa.schema([("uri", pa.string()), ("size", pa.int64()), ("stamp", pa.string()), ("video_id", pa.string())])

logger = logging.getLogger(__name__)

_Known = dict[tuple[str, int, str], str]


def digest_sources(
    sources: Sequence[Source],
    store: Store,
    filesystem: Any = None,
    *,
    threads: int = 4,
    chunk: int = 1000,
    denied: Denied | None = None,
) -> pa.Table:
    """``SOURCES`` rows, one a content: of files with the same bytes the one with the lowest URI stays.

    Digests are read from the corpus's cache where (uri, size, stamp) is known, else computed, ``threads`` files at a
    time, and remembered after every ``chunk`` of them. A file that cannot be read has size -1 and an id made from
    its URI, so that it fails as a row of its own. Of files that ``denied`` names nothing is remembered. Ordered by
    ``video_id``.
    """
    known = known_digests(store)
    pending = [s for s in sources if s.size >= 0 and (s.uri, s.size, s.stamp) not in known]
    with ThreadPoolExecutor(threads) as pool:
        for start in range(0, len(pending), chunk):
            part = pending[start : start + chunk]
            digests = pool.map(lambda s: _digest(s, filesystem), part)
            fresh = {(s.uri, s.size, s.stamp): d for s, d in zip(part, digests, strict=True) if d}
            _remember(store, {key: d for key, d in fresh.items() if not (denied and denied.names(d))})
            known |= fresh
    rows: dict[str, dict[str, Any]] = {}
    for source in sorted(sources):
        video_id = known.get((source.uri, source.size, source.stamp)) if source.size >= 0 else None
        size = source.size if video_id else -1
        video_id = video_id or digest(["unreachable", source.uri], 64)
        if video_id in rows:
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


def sources_to_mine(listed: Sequence[Source], store: Store, filesystem: Any = None) -> tuple[pa.Table, int]:
    """(``digest_sources`` without what take-downs name, how many were left out). Files at a URI that one names are not
    even read."""
    denied = denied_by_all(store)
    found = [source for source in listed if not denied.names(source.uri)]
    known = digest_sources(found, store, filesystem, denied=denied)
    free = pa.array([not denied.is_mined_no_more(video) for video in known["video_id"].to_pylist()], pa.bool_())
    sources = known.filter(free)
    return sources, len(listed) - len(found) + known.num_rows - sources.num_rows


def reached(recorded: pa.Table) -> pa.Table:
    """``SOURCES`` rows without those of files that could not be read, where the file at that URI has been read too."""
    read = pc.greater_equal(recorded["size"], 0)
    uris = recorded.filter(read)["uri"].combine_chunks()
    return recorded.filter(pc.or_(read, pc.invert(pc.is_in(recorded["uri"], value_set=uris))))


def known_digests(store: Store) -> _Known:
    """(uri, size, stamp) -> video_id, as far as the corpus remembers."""
    columns = (cached_digests(store)[name].to_pylist() for name in CACHED.names)
    return {(uri, size, stamp): video_id for uri, size, stamp, video_id in zip(*columns, strict=True)}


def cached_digests(store: Store) -> pa.Table:
    """Everything that the corpus remembers of files (``CACHED``)."""
    with ThreadPoolExecutor(8) as pool:
        tables = list(pool.map(lambda path: pq.read_table(io.BytesIO(store.read(path))), store.list(CACHE_PREFIX)))
    return pa.concat_tables([CACHED.empty_table(), *(table.select(CACHED.names).cast(CACHED) for table in tables)])


def _remember(store: Store, fresh: _Known) -> None:
    if not fresh:
        return
    rows = [dict(zip(CACHED.names, (*key, video_id), strict=True)) for key, video_id in sorted(fresh.items())]
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema=CACHED), buffer, compression="zstd")
    store.create(f"{CACHE_PREFIX}/{digest([list(row.values()) for row in rows], 24)}.parquet", buffer.getvalue())


def _digest(source: Source, filesystem: Any) -> str | None:
    try:
        remote = is_remote(source.uri)
        with filesystem.open(source.uri, "rb") if remote else local_path(source.uri).open("rb") as stream:
            return digest_file(stream)
    except OSError as error:
        logger.warning("%s cannot be read: %s", source.uri, error)
        return None
