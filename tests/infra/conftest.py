"""A real S3 server on this machine, with one bucket, for the session."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of SeaweedFS's server, where it is installed; credentials are in the environment while it runs."""
    from flows.bench.local_s3 import Seaweed, local_s3

    try:
        Seaweed("")
    except FileNotFoundError as error:
        pytest.skip(str(error))
    with local_s3(str(tmp_path_factory.mktemp("s3")), megabytes=64) as url:
        yield url


@pytest.fixture(params=["folder", "s3"])
def store(request, tmp_path):
    """An empty store: in a folder with odd characters in its name, and on the S3 server."""
    from infra.storage import open_store

    if request.param == "folder":
        return open_store(tmp_path / "a corpus [1] ü")
    request.getfixturevalue("s3_server")
    return open_store(f"s3://corpora/{uuid.uuid4().hex}")
