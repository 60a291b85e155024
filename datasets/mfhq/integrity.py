"""Checks of a corpus's files against what is recorded of them, before their content is used.

A file's size is compared at every opening. Its sha256 is computed once a process, and again if its size or its time of
change differ. Arrow's reader compares the checksum of each page that it reads. An image is compared with its sha256
whenever it is read.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from mfhq.manifest import FileEntry, footer_bytes
from mfhq.seals import DamagedFileError
from mfhq.store import Store

PUBLISH_AGAIN = "publish the corpus again, and `ffavatar verify` says what else is damaged"
MINE_AGAIN = "delete this file and run the same command again, which makes it anew"

LARGE_BYTES = 64 << 20
"""Size (bytes) above which a file that is read in part is checked by its footer and the checksums of the pages read."""

_CHUNK_BYTES = 16 << 20
_THREADS = 4

_checked: dict[tuple[str, str], tuple[Any, ...]] = {}
"""(store, path) → stamp and sha256 of each file that was found whole in this process."""
_lock = threading.Lock()


def check_file(store: Store, path: str, n_bytes: int, sha256: str, remedy: str = PUBLISH_AGAIN) -> None:
    """Check a file's size, and once a process its sha256.

    Args:
        store: The corpus.
        path: Path of the file.
        n_bytes: Its size, bytes.
        sha256: Its digest, hexadecimal.
        remedy: What to do if it is damaged, for the error.

    Raises:
        FileNotFoundError: There is no such file.
        DamagedFileError: The file is another one.
    """
    stamp = (*_stamp(store, path), sha256)
    with _lock:
        if _checked.get((store.uri, path)) == stamp:
            return
    where = f"{store.uri}/{path}"
    if stamp[0] != n_bytes:
        raise DamagedFileError(f"{where}: is damaged ({stamp[0]} bytes, {n_bytes} were written); {remedy}")
    if digest_stored(store, path, n_bytes) != sha256:
        raise DamagedFileError(f"{where}: is damaged (another sha256 than its record's); {remedy}")
    with _lock:
        _checked[store.uri, path] = stamp


def check_files(store: Store, files: Iterable[FileEntry], remedy: str = PUBLISH_AGAIN) -> None:
    """Check files of a manifest, several at a time (``check_file``).

    Args:
        store: The corpus.
        files: The files.
        remedy: What to do if one is damaged, for the error.
    """
    with ThreadPoolExecutor(_THREADS) as pool:
        list(pool.map(lambda file: check_file(store, file.path, file.n_bytes, file.sha256, remedy), files))


def is_file_whole(store: Store, file: FileEntry) -> bool:
    """Return True if a file of a manifest is there and is the one that was written (``check_file``).

    Args:
        store: The corpus.
        file: The file.
    """
    try:
        check_file(store, file.path, file.n_bytes, file.sha256)
    except (FileNotFoundError, DamagedFileError):
        return False
    return True


def check_opened(store: Store, file: FileEntry) -> None:
    """Check a file of which a part will be read, page by page.

    A file above ``LARGE_BYTES`` is not read as a whole: its size and its footer are compared.

    Args:
        store: The corpus.
        file: The file.

    Raises:
        FileNotFoundError: There is no such file.
        DamagedFileError: The file is another one.
    """
    if file.n_bytes <= LARGE_BYTES or not file.footer_sha256:
        check_file(store, file.path, file.n_bytes, file.sha256)
        return
    check_footers(store, [file])


def check_footers(store: Store, files: Iterable[FileEntry]) -> None:
    """Check size and footer of files of a manifest, several at a time; a file of format 1 has its size checked.

    Args:
        store: The corpus.
        files: The files.

    Raises:
        FileNotFoundError: There is no such file.
        DamagedFileError: The file is another one.
    """
    with ThreadPoolExecutor(_THREADS) as pool:
        list(pool.map(lambda file: _check_footer(store, file), files))


def _check_footer(store: Store, file: FileEntry) -> None:
    size, where = store.size(file.path), f"{store.uri}/{file.path}"
    if size != file.n_bytes:
        raise DamagedFileError(f"{where}: is damaged ({size} bytes, {file.n_bytes} were written); {PUBLISH_AGAIN}")
    if not file.footer_sha256:
        return
    length = min(size, footer_bytes(store.read(file.path, size - 8, 8)))
    if hashlib.sha256(store.read(file.path, size - length, length)).hexdigest() != file.footer_sha256:
        raise DamagedFileError(f"{where}: is damaged (another footer than its record's); {PUBLISH_AGAIN}")


def check_read(store: Store, path: str, data: bytes, sha256: str, remedy: str = PUBLISH_AGAIN) -> bytes:
    """Return a file's bytes, which were read as a whole, if they have this digest.

    Args:
        store: The corpus.
        path: Path of the file.
        data: Its bytes.
        sha256: Its digest, hexadecimal.
        remedy: What to do if it is damaged, for the error.

    Raises:
        DamagedFileError: The file is another one.
    """
    if hashlib.sha256(data).hexdigest() != sha256:
        where = f"{store.uri}/{path}"
        raise DamagedFileError(f"{where}: is damaged ({len(data)} bytes, another sha256 than its record's); {remedy}")
    return data


def is_image_whole(data: bytes, reference: Mapping[str, Any]) -> bool:
    """Return True if an image has the length and, where one is given, the sha256 of its reference.

    Args:
        data: The image's bytes.
        reference: ``mfhq.schema.BLOB_REF``; ``sha256`` may be missing.
    """
    expected = reference.get("sha256")
    return len(data) == reference["length"] and (not expected or hashlib.sha256(data).hexdigest() == expected)


def digest_stored(store: Store, path: str, n_bytes: int) -> str:
    """Return the sha256 of a file, which is read in chunks.

    Args:
        store: The corpus.
        path: Path of the file.
        n_bytes: Its size, bytes.
    """
    whole = hashlib.sha256()
    for offset in range(0, n_bytes, _CHUNK_BYTES):
        whole.update(store.read(path, offset, min(_CHUNK_BYTES, n_bytes - offset)))
    return whole.hexdigest()


def _stamp(store: Store, path: str) -> tuple[Any, ...]:
    """Return a file's size and what changes when the file does."""
    found = store.filesystem.info(store.url(path))
    if found["type"] != "file":
        raise FileNotFoundError(f"{store.uri}/{path}")
    return (int(found["size"]), *(str(found.get(name, "")) for name in ("mtime", "ino", "ETag", "LastModified")))
