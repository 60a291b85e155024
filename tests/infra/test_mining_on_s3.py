"""The same videos mined into a folder and into an S3 bucket, failing or not, give the same snapshot by digest."""

from __future__ import annotations

import contextlib

import pytest

from infra.storage import open_store
from mfhq.catalog import Catalog
from mfhq.store import StoreError
from pipelines.engine.state import fingerprints
from pipelines.publishing.publish_snapshot import publish_snapshot
from tests.support import toy_mining as toy
from tests.support.faulty_s3 import faulty
from tests.support.mined_tables import mined_tables
from tests.support.toy_run import run_toy


def test_a_folder_and_a_bucket_give_one_digest(s3_server, tmp_path):
    prints, made = fingerprints(toy.toy_steps(), toy.AFTER), []
    for store in (open_store(tmp_path), open_store("s3://corpora/mined")):
        run_toy(store, 6)
        cut = mined_tables(store, prints)
        made.append(publish_snapshot(store, prints, toy.assign(cut)))
        again = run_toy(store, 6, run_id="again")
        assert again["tracks"].before == again["tracks"].items > 0
        assert Catalog(store).open().query("@cost")["attempts"].to_pylist()
    assert made[0] == made[1] and made[0].rows["faces"] == 4 * 5


def test_answers_of_503_and_answers_that_are_lost_change_nothing(s3_server, tmp_path, monkeypatch):
    backoff = "botocore.retries.standard.ExponentialBackoff.delay_amount"
    monkeypatch.setattr(backoff, lambda self, context: 0.02)  # seconds between tries; else up to some seconds
    made = []
    with faulty(s3_server, _503=7, closed=23, lost=11) as proxy:
        monkeypatch.setenv("FFAVATAR_S3_ENDPOINT", proxy.url)
        for run in range(6):  # what outlasts the client's tries is one line, and the same call goes on
            with contextlib.suppress(StoreError):
                run_toy(open_store("s3://corpora/failing"), 2, run_id=f"run-{run}", batch=6)
                break
        else:
            pytest.fail("six calls did not come to an end")
    assert all(proxy.faults[kind] for kind in ("503", "closed", "lost")), proxy.faults
    monkeypatch.setenv("FFAVATAR_S3_ENDPOINT", s3_server)
    run_toy(open_store(tmp_path), 2, batch=6)
    prints = fingerprints(toy.toy_steps(), toy.AFTER)
    for store in (open_store("s3://corpora/failing"), open_store(tmp_path)):
        cut = mined_tables(store, prints)
        made.append(publish_snapshot(store, prints, toy.assign(cut)).digest)
    assert made[0] == made[1]
