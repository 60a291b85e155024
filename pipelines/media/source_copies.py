"""Copies of remote source files on this machine's disk: a file is fetched once, and digested while it is fetched."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

DISK_SHARE = 0.5
"""Upper bound on the copies' share of the disk space that they and others leave free; the newest copy always stays."""

KEPT_SECONDS = 86_400.0
"""Time after which a copy that nobody used is removed, seconds."""

_CHUNK_BYTES = 4 << 20


class BytesDiffer(RuntimeError):
    """Error of a remote file whose bytes are not those of its digest any more."""


def _default_folder() -> Path:
    return Path(tempfile.gettempdir()) / f"ffavatar-sources-{os.getuid()}"


@dataclass(frozen=True)
class SourceCopies:
    """Copies of remote files, named by the sha256 of their bytes; the processes of a machine share them.

    A copy that is in use is not lost if another process removes it: a user has a link of its own.
    """

    filesystem: Any
    """fsspec, from which files are fetched."""
    folder: Path = field(default_factory=_default_folder)
    max_bytes: int | None = None
    """Upper bound on the bytes of the copies; None for ``DISK_SHARE`` of the disk."""

    def fetch(self, uri: str) -> str:
        """Fetch a file, and keep the copy.

        Args:
            uri: The remote file.

        Returns:
            sha256 of its bytes, hexadecimal.

        Raises:
            OSError: The file cannot be read, or the copy cannot be written.
        """
        self._prepare()
        part, sha = self.folder / f"{uuid4().hex}.part", hashlib.sha256()
        try:
            with self.filesystem.open(uri, "rb") as stream, part.open("wb") as copy:
                while data := stream.read(_CHUNK_BYTES):
                    sha.update(data)
                    copy.write(data)
            part.replace(self.folder / sha.hexdigest())
        finally:
            part.unlink(missing_ok=True)
        self._evict(keep=sha.hexdigest())
        return sha.hexdigest()

    @contextmanager
    def open(self, uri: str, video_id: str) -> Iterator[Path]:
        """Yield a local path of a file; it is fetched if there is no copy of it.

        Args:
            uri: The remote file.
            video_id: Digest of its bytes; empty if it is not known.

        Raises:
            OSError: The file cannot be fetched.
            BytesDiffer: Its bytes have another digest.
        """
        self._prepare()
        link = self.folder / f"{uuid4().hex}.link{Path(uri).suffix}"
        try:
            if not video_id or not self._link(video_id, link):
                found = self.fetch(uri)
                if video_id and found != video_id:
                    raise BytesDiffer(f"{uri}: other bytes than those of {video_id[:12]}; mine it again")
                if not self._link(found, link):
                    raise OSError(f"{uri}: its copy in {self.folder} was removed; run the same command again")
            yield link
        finally:
            link.unlink(missing_ok=True)

    def remove(self, video_id: str) -> None:
        """Remove the copy of a file that is not needed any more.

        Args:
            video_id: Digest of its bytes.
        """
        (self.folder / video_id).unlink(missing_ok=True)

    def room(self) -> int:
        """Return the upper bound on the bytes of the copies."""
        if self.max_bytes is not None:
            return self.max_bytes
        self._prepare()
        held = 0
        for path in self.folder.iterdir():
            with contextlib.suppress(FileNotFoundError):
                held += path.stat().st_size
        return int(DISK_SHARE * (shutil.disk_usage(self.folder).free + held))

    def _link(self, name: str, link: Path) -> bool:
        copy = self.folder / name
        try:
            os.link(copy, link)
            os.utime(copy)
        except FileNotFoundError:
            return link.exists()
        return True

    def _prepare(self) -> None:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self.folder.stat().st_uid != os.getuid():
            raise OSError(f"{self.folder}: belongs to another user; set TMPDIR to a folder of your own")

    def _evict(self, keep: str) -> None:
        """Remove old copies, and those that were not used for longest until the rest is small enough."""
        copies, now = [], time.time()
        for path in self.folder.iterdir():
            with contextlib.suppress(FileNotFoundError):
                status = path.stat()
                copies.append((path.name != keep, now - status.st_mtime, status.st_size, path))
        room, kept = self.room(), 0
        for is_other, age, size, path in sorted(copies):
            kept += size
            is_unused = age > KEPT_SECONDS or (kept > room and not path.suffix)
            if is_other and is_unused:
                path.unlink(missing_ok=True)
