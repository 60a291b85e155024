"""Byte ranges of S3 objects by Arrow's client, for the many small reads of a training loader.

Measured on ranges of 20 kB from SeaweedFS on the same machine: 0.36 ms of processor time a read, s3fs 2.2, boto3 1.7.
"""

from __future__ import annotations

import os
import threading
import urllib.parse
from collections import OrderedDict

import pyarrow as pa
import pyarrow.fs as pafs

OPEN_FILES = 4096
"""Objects whose length is remembered; it is asked for once each."""


class S3Ranges:
    """Reads ranges of the objects of a bucket. May be used by several threads; not to be carried to other processes."""

    def __init__(self, bucket: str, endpoint: str | None) -> None:
        """``endpoint`` is the URL of another server than Amazon's. Raises ``OSError`` where the bucket is not found."""
        times = {"connect_timeout": 10, "request_timeout": 60, "retry_strategy": pafs.AwsStandardS3RetryStrategy()}
        if endpoint:
            url = urllib.parse.urlparse(endpoint)
            region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"
            self._s3 = pafs.S3FileSystem(endpoint_override=url.netloc, scheme=url.scheme, region=region, **times)
        else:
            self._s3 = pafs.S3FileSystem(region=pafs.resolve_s3_region(bucket), **times)
        self._lock = threading.Lock()
        self._files: OrderedDict[str, pa.NativeFile] = OrderedDict()

    def read(self, url: str, offset: int, length: int) -> bytes:
        """Bytes of the object ``bucket/key``. Raises ``OSError``, also where it ends before or has become another."""
        with self._lock:
            file = self._files.pop(url, None)
            if file is not None:
                self._files[url] = file  # the last to be forgotten
        file = file or self._s3.open_input_file(url)
        data: bytes = b""
        try:
            data = file.read_at(length, offset)
        finally:
            with self._lock:
                if len(data) == length:
                    self._files[url] = file
                else:
                    self._files.pop(url, None)
                while len(self._files) > OPEN_FILES:
                    self._files.popitem(last=False)
        if len(data) != length:
            raise OSError(f"{url} at {offset}: {len(data)} bytes of {length}")
        return data
