"""Division of remote sources into waves, each of which is fetched and mined before the next: disks are finite."""

from __future__ import annotations

from collections.abc import Container, Sequence

from pipelines.media.local_files import is_remote
from pipelines.mining.source_listing import Source


def fetch_waves(listed: Sequence[Source], known: Container[tuple[str, int, str]], max_bytes: int) -> list[list[Source]]:
    """Divide sources into waves, so that the remote files of a wave that are to be fetched fit on a disk.

    Local files and files of known digest take no room: the latter are fetched one at a time, if they are fetched.

    Args:
        listed: The files of a source.
        known: (uri, size, stamp) of the files whose digest is known (``digests.known_digests``).
        max_bytes: Upper bound on the bytes of a wave; a larger file is a wave of its own.

    Returns:
        The sources in the order of their URIs; one wave at least.
    """
    waves, n_bytes = [list[Source]()], 0
    for source in sorted(listed):
        is_fetched = is_remote(source.uri) and (source.uri, source.size, source.stamp) not in known
        size = max(0, source.size) if is_fetched else 0
        if size and n_bytes and n_bytes + size > max_bytes:
            waves.append([])
            n_bytes = 0
        waves[-1].append(source)
        n_bytes += size
    return waves
