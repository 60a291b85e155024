"""Reading of single members of a zip without unpacking the zip, with limits on the members' sizes."""

from __future__ import annotations

import lzma
import zipfile
import zlib
from typing import BinaryIO, Self

DAMAGE = (
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, OSError, EOFError, ValueError, RuntimeError),
    *(NotImplementedError, MemoryError),
)
"""Errors that a damaged member raises: each method of compression has its own; a damaged header may ask for memory."""
MAX_MEMBERS = 200_000
"""Largest number of members of a zip; official zips have at most about 10,000."""


class ArchiveError(ValueError):
    """Error for a zip, or a member of a zip, that cannot or must not be read.

    ``reason`` is a code: archive_damaged (the zip), picture_damaged (a member), unsafe_member or too_large.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Archive:
    """A zip that is open for reading.

    ``close`` also closes the stream; the stream is closed, too, if the constructor raises an error.
    """

    def __init__(self, name: str, stream: BinaryIO) -> None:
        """Read the list of members.

        Args:
            name: Name of the zip for messages.
            stream: Seekable stream of the zip.

        Raises:
            ArchiveError: The stream is incomplete or not a zip; a member is a link or lies outside of the zip's folder
                (``../`` or an absolute path); or there are more than ``MAX_MEMBERS`` members.
        """
        self.name, self._stream = name, stream
        try:
            self._zip = zipfile.ZipFile(stream)
            self._members = {info.filename: info for info in self._zip.infolist()}
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, EOFError) as error:
            stream.close()
            raise ArchiveError("archive_damaged", f"{name}: no complete zip ({error}); fetch it again") from error
        if len(self._members) > MAX_MEMBERS:
            self.close()
            raise ArchiveError("too_large", f"{name}: lists {len(self._members)} members, at most {MAX_MEMBERS} can be")
        for info in self._members.values():
            if _leaves_folder(info):
                self.close()
                raise ArchiveError("unsafe_member", f"{name}: names {info.filename!r}, outside of its folder")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the zip and its stream."""
        self._zip.close()
        self._stream.close()

    def names(self) -> list[str]:
        """Return the names of all members, without directories."""
        return [name for name in self._members if not name.endswith("/")]

    def read(self, member: str, limit: int) -> bytes | None:
        """Read a member.

        Args:
            member: Name of the member inside the zip.
            limit: Largest number of bytes that are unpacked, regardless of the size that the zip declares.

        Returns:
            Bytes of the member; None if there is no such member.

        Raises:
            ArchiveError: The member is longer than ``limit``, or its bytes are damaged.
        """
        info = self._members.get(member)
        if info is None:
            return None
        if info.file_size > limit:
            raise ArchiveError("too_large", f"{self.name}: {member} declares {info.file_size} bytes, over {limit}")
        try:
            with self._zip.open(info) as stream:
                data = stream.read(limit + 1)
        except DAMAGE as error:
            raise ArchiveError("picture_damaged", f"{self.name}: {member} cannot be read ({error})") from error
        if len(data) > limit:
            raise ArchiveError("too_large", f"{self.name}: {member} unpacks to more than {limit} bytes")
        if len(data) != info.file_size:
            raise ArchiveError("picture_damaged", f"{self.name}: {member} has {len(data)} of {info.file_size} bytes")
        return data


def _leaves_folder(info: zipfile.ZipInfo) -> bool:
    """Return True if a member is a link or would be unpacked outside of the zip's folder."""
    name = info.orig_filename.replace("\\", "/")
    is_link = (info.external_attr >> 16) & 0o170000 == 0o120000
    return is_link or name.startswith("/") or name[1:2] == ":" or ".." in name.split("/")
