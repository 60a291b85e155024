"""Stores that contain a corpus, in a folder or under a prefix of an S3 bucket.

They implement the protocol ``mfhq.store.Store``, which documents their public methods.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import urllib.parse
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from infra.s3_ranges import S3Ranges
from infra.settings import PRIVATE_FOLDER
from mfhq.masking import has_credentials, mask_secrets
from mfhq.paths import BIOMETRIC
from mfhq.store import Store, StoreError, StoreUriError

if TYPE_CHECKING:
    from s3fs import S3FileSystem

ENDPOINT_VARIABLES = ("FFAVATAR_S3_ENDPOINT", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
"""Environment variables with the URL of an S3 endpoint other than Amazon's; the first one that is set is used."""

_TEMPORARY = ".part-"
_FILE, _PRIVATE_FILE = 0o666, 0o600
"""Modes of new files, of which the umask is taken away: everybody's, and those below ``BIOMETRIC``."""

log = logging.getLogger(__name__)


def open_store(uri: str | os.PathLike[str]) -> Store:
    """Open the store at a URI; nothing is created.

    ``ENDPOINT_VARIABLES`` can name an S3 endpoint other than Amazon's. Each machine takes the credentials from the
    usual sources of AWS tools; they are never part of the store.

    Args:
        uri: ``file:///folder``, a plain path, or ``s3://bucket/prefix``.

    Raises:
        StoreUriError: The URI has an unknown scheme or credentials in it, names no bucket, or names a file.
        StoreError: The bucket does not exist, or the endpoint does not answer; the message tells what to do.
    """
    text = os.fspath(uri)
    if has_credentials(text):
        way_out = "they would be stored with every run; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        raise StoreUriError(f"{mask_secrets(text)}: has credentials in it; {way_out}")
    scheme, separator, rest = text.partition("://")
    if not separator:
        return _open_folder(text, Path(text))
    if scheme == "file":
        if not rest.startswith("/"):
            raise StoreUriError(
                f"{text}: names a host, {rest.partition('/')[0]!r}; write file:///folder, or a plain path"
            )
        return _open_folder(text, Path(urllib.parse.unquote(urllib.parse.urlparse(text).path)))
    if scheme == "s3":
        bucket, _, prefix = rest.strip("/").partition("/")
        if not bucket:
            raise StoreUriError(f"{text}: names no bucket; write s3://bucket/prefix")
        endpoint = next((os.environ[name] for name in ENDPOINT_VARIABLES if os.environ.get(name)), None)
        store = S3Store(bucket=bucket, prefix=prefix, endpoint=endpoint)
        store.check()
        return store
    raise StoreUriError(f"{text}: unknown scheme {scheme!r}; use file:///folder, a plain path, or s3://bucket/prefix")


def _open_folder(text: str, path: Path) -> FolderStore:
    root = path.expanduser().absolute()
    if root.exists() and not root.is_dir():
        raise StoreUriError(f"{text}: is a file; a corpus needs a folder")
    return FolderStore(root=str(root))


@dataclass(frozen=True)
class FolderStore:
    """Store of a corpus in a folder; the file system must have hard links, which implement the conditional create.

    Modes follow the umask; files below ``mfhq.paths.BIOMETRIC`` are for the user alone, in folders for the user alone.
    """

    root: str
    """Absolute path of the folder, which is created at the first write."""

    @property
    def uri(self) -> str:
        return Path(self.root).as_uri()

    @cached_property
    def filesystem(self) -> Any:
        """Local file system of fsspec."""
        from fsspec.implementations.local import LocalFileSystem

        return LocalFileSystem()

    def __getstate__(self) -> dict[str, str]:
        return {"root": self.root}

    def url(self, path: str) -> str:
        return str(self._path(path))

    def _path(self, path: str) -> Path:
        if path.startswith("/") or ".." in path.split("/"):
            raise StoreError(f"{self.uri}: {path!r} leads out of the corpus; paths are relative and have no '..'")
        return Path(self.root, path)

    def read(self, path: str, offset: int = 0, length: int | None = None) -> bytes:
        with self._errors(path), self._path(path).open("rb") as stream:
            stream.seek(offset)
            return stream.read(-1 if length is None else length)

    def write(self, path: str, data: bytes) -> None:
        with self._temporary(path, data) as temporary:
            temporary.replace(self._path(path))

    def create(self, path: str, data: bytes) -> bool:
        with self._temporary(path, data) as temporary:
            try:
                os.link(temporary, self._path(path))
            except FileExistsError:
                return False
            folder = os.open(temporary.parent, os.O_RDONLY)
            try:
                os.fsync(folder)  # also syncs data files that were renamed before: a marker never outlives its data
            finally:
                os.close(folder)
        return True

    def exists(self, path: str) -> bool:
        return self._path(path).is_file()

    def size(self, path: str) -> int:
        with self._errors(path):
            return self._path(path).stat().st_size

    def list(self, prefix: str) -> Iterator[str]:
        folder = self._path(prefix)
        paths = []
        with self._errors(prefix):
            for directory, _, names in os.walk(folder):
                relative = Path(directory).relative_to(self.root)
                paths += [(relative / name).as_posix() for name in names if not name.startswith(_TEMPORARY)]
        return iter(sorted(paths))

    def delete(self, path: str) -> None:
        with self._errors(path):
            self._path(path).unlink(missing_ok=True)

    def purge(self) -> str:
        with self._errors(""):
            for directory, _, names in os.walk(self.root):
                for name in names:
                    if name.startswith(_TEMPORARY):
                        Path(directory, name).unlink(missing_ok=True)
        return ""

    @contextlib.contextmanager
    def _temporary(self, path: str, data: bytes) -> Iterator[Path]:
        """Yield a temporary file beside ``path`` with the synced data, to be renamed or linked; then remove it."""
        target = self._path(path)
        with self._errors(path):
            private = _make_folder(target.parent, Path(self.root))
            temporary = target.with_name(f"{_TEMPORARY}{uuid.uuid4().hex}")
            mode = _PRIVATE_FILE if private else _FILE
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
            try:
                with os.fdopen(descriptor, "wb") as stream:
                    stream.write(data)
                    stream.flush()
                    os.fsync(stream.fileno())
                yield temporary
            finally:
                temporary.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _errors(self, path: str) -> Iterator[None]:
        """Raise operating system errors, except ``FileNotFoundError``, as a ``StoreError`` that tells what to do."""
        try:
            yield
        except FileNotFoundError:
            raise
        except OSError as error:
            hint = {
                errno.ENOSPC: "the disk is full; make room and run the same command again",
                errno.EDQUOT: "the disk quota is used up; make room and run the same command again",
                errno.EACCES: "no permission; check the folder's owner and mode",
                errno.EROFS: "the file system is read-only; use another folder",
                errno.EPERM: "not permitted; the corpus needs a file system with hard links",
                errno.ENOTSUP: "the corpus needs a file system with hard links; use another folder",
                errno.ENOTDIR: "a file stands where a folder is needed; use another folder",
            }.get(error.errno or 0, error.strerror or str(error))
            raise StoreError(f"{Path(self.root, path).as_uri()}: {hint}") from error


def _make_folder(folder: Path, root: Path) -> bool:
    """Make a folder of the corpus in ``root``; return True if it is private, and then other users may not enter it."""
    private = BIOMETRIC.strip("/")
    if private not in folder.parts:
        folder.mkdir(parents=True, exist_ok=True)
        return False
    top = len(folder.parts) - folder.parts[::-1].index(private)
    Path(*folder.parts[: top - 1]).mkdir(parents=True, exist_ok=True)
    for depth in range(top, len(folder.parts) + 1):
        part = Path(*folder.parts[:depth])
        part.mkdir(mode=PRIVATE_FOLDER, exist_ok=True)
        if part.is_relative_to(root) and part.stat().st_mode & 0o077:  # from before such folders were closed
            part.chmod(PRIVATE_FOLDER)
    return True


@dataclass(frozen=True)
class S3Store:
    """Store of a corpus under a prefix of an S3 bucket; the conditional create is a PUT with ``If-None-Match: *``."""

    bucket: str
    """Name of the bucket."""
    prefix: str
    """Prefix of the corpus's keys, without slashes at its ends; empty for the complete bucket."""
    endpoint: str | None = None
    """URL of an S3 server other than Amazon's; None for Amazon's."""

    @property
    def uri(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}".rstrip("/")

    @cached_property
    def filesystem(self) -> S3FileSystem:
        """File system of s3fs without its cache of listings, so that files of other writers are listed."""
        from s3fs import S3FileSystem

        config = {"connect_timeout": 10, "read_timeout": 60, "retries": {"max_attempts": 3, "mode": "standard"}}
        return S3FileSystem(
            endpoint_url=self.endpoint, config_kwargs=config, use_listings_cache=False, skip_instance_cache=True
        )

    @cached_property
    def _ranges(self) -> S3Ranges | None:
        try:
            return S3Ranges(self.bucket, self.endpoint)
        except OSError as error:
            log.warning("%s: ranges are read by s3fs, six times as slow (%s)", self.uri, _one_line(error))
            return None

    def __getstate__(self) -> dict[str, Any]:
        return {"bucket": self.bucket, "prefix": self.prefix, "endpoint": self.endpoint}

    def check(self) -> None:
        """Check that the bucket can be listed.

        Raises:
            StoreError: The endpoint does not answer, or has no such bucket.
        """
        with self._errors(""):
            try:
                self.filesystem.call_s3("list_objects_v2", Bucket=self.bucket, Prefix=self.prefix, MaxKeys=1)
            except FileNotFoundError as error:
                raise StoreError(f"{self.uri}: no such bucket; make it, or name another") from error

    def url(self, path: str) -> str:
        if path.startswith("/") or ".." in path.split("/"):
            raise StoreError(f"{self.uri}: {path!r} leads out of the corpus; paths are relative and have no '..'")
        return "/".join(part for part in (self.bucket, self.prefix, path) if part)

    def read(self, path: str, offset: int = 0, length: int | None = None) -> bytes:
        if length == 0:
            return b""
        with self._errors(path):
            if length is not None and self._ranges is not None:
                with contextlib.suppress(OSError):  # the read by s3fs below then raises an error with its reason
                    return self._ranges.read(self.url(path), offset, length)
            start, end = (None, None) if not offset and length is None else (offset, length and offset + length)
            return self.filesystem.cat_file(self.url(path), start=start, end=end)

    def write(self, path: str, data: bytes) -> None:
        with self._errors(path):
            self._put(path, data, "overwrite")

    def create(self, path: str, data: bytes) -> bool:
        with self._errors(path):
            try:
                self._put(path, data, "create")
            except OSError as error:
                if not _is_taken(error):
                    raise
                return False
        return True

    def _put(self, path: str, data: bytes, mode: str) -> None:
        try:
            self.filesystem.pipe_file(self.url(path), data, mode=mode)
        except FileNotFoundError as error:
            raise StoreError(f"{self.uri}: no such bucket; make it, or name another") from error

    def exists(self, path: str) -> bool:
        with self._errors(path):
            try:
                return self.filesystem.info(self.url(path))["type"] == "file"
            except FileNotFoundError:
                return False

    def size(self, path: str) -> int:
        with self._errors(path):
            return int(self.filesystem.info(self.url(path))["size"])

    def list(self, prefix: str) -> Iterator[str]:
        base = self.url("")
        folder = self.url(prefix).rstrip("/")
        with self._errors(prefix):
            paths = [name[len(base) + 1 :] for name in self.filesystem.find(folder) if name.startswith(f"{folder}/")]
        return iter(sorted(paths))

    def delete(self, path: str) -> None:
        with self._errors(path), contextlib.suppress(FileNotFoundError):
            self.filesystem.rm_file(self.url(path))

    def purge(self) -> str:
        with self._errors(""):
            prefix = f"{self.prefix}/" if self.prefix else ""
            listing = self.filesystem.call_s3("list_multipart_uploads", Bucket=self.bucket, Prefix=prefix)
            for upload in listing.get("Uploads") or ():
                upload_id = {"Bucket": self.bucket, "Key": upload["Key"], "UploadId": upload["UploadId"]}
                self.filesystem.call_s3("abort_multipart_upload", **upload_id)
            versions = self.filesystem.call_s3("get_bucket_versioning", Bucket=self.bucket).get("Status")
        remnant = f"bucket {self.bucket} keeps old versions of what is deleted (versioning: {versions})"
        return f"{remnant}; expire its noncurrent versions" if versions else ""

    @contextlib.contextmanager
    def _errors(self, path: str) -> Iterator[None]:
        """Raise errors of S3, except ``FileNotFoundError``, as a ``StoreError`` that tells what to do."""
        from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

        uri = f"{self.uri}/{path}".rstrip("/")
        try:
            yield
        except (FileNotFoundError, StoreError):
            raise
        except NoCredentialsError as error:
            raise StoreError(f"{uri}: no credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY") from error
        except PermissionError as error:
            raise StoreError(f"{uri}: access denied ({_one_line(error)}); check the credentials") from error
        except (BotoCoreError, ClientError, OSError) as error:
            server = mask_secrets(self.endpoint or "Amazon S3")
            raise StoreError(
                f"{uri}: {server} failed ({_one_line(error)}); check the network and {ENDPOINT_VARIABLES[0]}"
            ) from error


def _is_taken(error: OSError) -> bool:
    """Tell whether an object was there already; SeaweedFS says so without the name of the condition that failed."""
    answer = getattr(error.__cause__, "response", None) or {}
    return isinstance(error, FileExistsError) or answer.get("Error", {}).get("Code") == "PreconditionFailed"


def _one_line(error: BaseException) -> str:
    """Return an error's message as one line of at most 200 characters."""
    return " ".join(mask_secrets(str(error)).split())[:200] or type(error).__name__
