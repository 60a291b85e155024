"""A real S3 server on this machine, with one bucket, for the session."""

from __future__ import annotations

import uuid

import pytest


@pytest.fixture(scope="session")
def s3_server():
    """URL of moto's server; credentials are in the environment while it runs."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FFAVATAR_S3_ENDPOINT", f"http://{host}:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "someone")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "a-well-kept-secret")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        import s3fs

        s3fs.S3FileSystem(endpoint_url=f"http://{host}:{port}", skip_instance_cache=True).mkdir("corpora")
        yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(params=["folder", "s3"])
def store(request, tmp_path):
    """An empty store: in a folder with odd characters in its name, and on the S3 server."""
    from infra.storage import open_store

    if request.param == "folder":
        return open_store(tmp_path / "a corpus [1] ü")
    request.getfixturevalue("s3_server")
    return open_store(f"s3://corpora/{uuid.uuid4().hex}")
