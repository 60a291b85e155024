"""``ffavatar retry`` as a flow on Ray: failed items are run again, and named when they fail again."""

from __future__ import annotations

import hashlib

import pyarrow as pa
import pytest

from infra.storage import open_store
from mfhq.catalog import CatalogError
from mfhq.corpus_tables import read_attempts
from pipelines.engine.sources import read_sources
from pipelines.mining.digests import digest_sources
from pipelines.mining.schemas import SOURCES
from pipelines.mining.source_listing import Source
from tests.support import toy_mining
from tests.support.toy_run import run_toy

N = 12


@pytest.fixture
def corpus(tmp_path, ray_session, prefect_server, settings, monkeypatch):
    """A corpus with one quarantined item of toy steps, which ``retry`` uses; publishing is recorded, not done."""
    import ray

    from flows import retry

    ray.cloudpickle.register_pickle_by_value(toy_mining)
    published = []
    monkeypatch.setenv("FFAVATAR_HOME", str(settings.home))
    monkeypatch.setattr(retry, "mining_steps", lambda *arguments, **options: toy_mining.toy_steps())
    monkeypatch.setattr(retry, "AFTER", toy_mining.AFTER)
    monkeypatch.setattr(retry, "publish", lambda **arguments: published.append(arguments) or {"snapshot": "v0001"})
    store = open_store(tmp_path / "corpus")
    run_toy(store, N)
    return store, published


@pytest.mark.ray
def test_failed_items_are_run_again_and_named(corpus, capsys):
    from flows.retry import MORE_ATTEMPTS, retry_command

    store, published = corpus
    (bad,) = [uri for uri in toy_mining.sources(N)["uri"].to_pylist() if "bad" in uri]
    with pytest.raises(CatalogError, match="--where"):
        retry_command(store.uri, "nothing = 1", None, "small")
    assert retry_command(store.uri, "reason = 'OSError'", None, "small") == 0
    assert "0 of 1 failed items are tried again" in capsys.readouterr().out and not published
    before = read_attempts(store, "tracks")
    assert retry_command(store.uri, "uri LIKE '%bad%'", None, "mfhq") == 1
    out = capsys.readouterr().out
    assert "1 of 1 failed items are tried again" in out and f"failed {bad}: ValueError" in out
    (arguments,) = published
    assert arguments["preset"] == "mfhq" and arguments["parent"]
    assert read_attempts(store, "tracks").num_rows == before.num_rows + MORE_ATTEMPTS


@pytest.mark.ray
def test_a_file_that_is_there_again_is_mined(corpus, tmp_path):
    from flows.retry import list_failed_items, retry_command

    store, published = corpus
    path = tmp_path / "away-good-1.mp4"
    (listed,) = digest_sources([Source(str(path), -1, "", "CC0", "yes")], store).to_pylist()
    run_toy(store, N, sources=pa.Table.from_pylist([listed], schema=SOURCES))
    path.write_bytes(b"here again")
    assert retry_command(store.uri, f"uri = '{path}'", None, "small") == 0 and published
    recorded = {row["video_id"]: row for row in read_sources(store, SOURCES, "video_id").to_pylist()}
    row = recorded[hashlib.sha256(b"here again").hexdigest()]
    assert (row["uri"], row["licence"], row["consent"]) == (str(path), "CC0", "yes")
    assert str(path) not in list_failed_items(store.uri, "")[0]["uri"].to_pylist()
