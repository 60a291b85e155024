"""A take-down in a bucket of a real S3 server: to the last byte, like in a folder; and what a bucket may keep."""

from __future__ import annotations

import datetime
import uuid

from infra.storage import open_store
from mfhq.catalog import Catalog, read_blob
from pipelines.takedown.planner import TakedownPlanner
from pipelines.takedown.sweep import record_takedown, sweep
from tests.support import remnants as scan
from tests.support import takedown_corpus as made
from tests.support import toy_mining as toy
from tests.support.toy_run import run_toy


def test_a_person_is_gone_from_a_bucket_to_the_last_byte(s3_server, monkeypatch):
    store = open_store(f"s3://corpora/{uuid.uuid4().hex}")
    made.build(store, toy, run_toy, monkeypatch, n=4)
    names, pieces = made.traces(store, toy, person="person-0")
    others = made.traces(store, toy, person="person-1")
    assert scan.remnants(store, names, pieces)
    removal = TakedownPlanner(store).plan_identity("person-0", "toy", 0.5)
    record_takedown(store, removal.to_takedown(datetime.datetime(2024, 6, 1, tzinfo=datetime.UTC)))
    with Catalog(store).open().connect() as connection:  # on record, and nothing rewritten yet
        shown = connection.execute("SELECT identity_id FROM identities ORDER BY 1").fetchall()
    assert shown == [("person-1",), ("person-2",), ("person-3",)]
    swept = sweep(store, removal.names)
    assert swept.is_clean and swept.changes.snapshots == ["v0001", "v0002"]
    assert scan.remnants(store, names, pieces) == [] and scan.missing(store, *others) == []
    snapshot = Catalog(store).open("v1")
    assert snapshot.manifest.redacted_by and snapshot.digest != snapshot.manifest.digest
    assert all(read_blob(store, face["crop"]) for face in snapshot.table("faces").to_pylist())


def test_what_was_half_uploaded_is_dropped_and_a_bucket_with_versions_is_named(s3_server):
    bucket = uuid.uuid4().hex
    open_store("s3://corpora/x").filesystem.mkdir(bucket)
    store = open_store(f"s3://{bucket}/corpus")
    s3 = store.filesystem
    s3.call_s3("create_multipart_upload", Bucket=bucket, Key="corpus/steps/x.blobs")
    s3.call_s3("create_multipart_upload", Bucket=bucket, Key="another/x.blobs")
    assert store.purge() == ""
    left = s3.call_s3("list_multipart_uploads", Bucket=bucket)["Uploads"]
    assert [upload["Key"] for upload in left] == ["another/x.blobs"]
    s3.call_s3("put_bucket_versioning", Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    assert f"bucket {bucket} keeps old versions" in store.purge()


def test_a_folder_keeps_nothing_hidden(tmp_path):
    store = open_store(tmp_path)
    store.write("a/b", b"1")
    (tmp_path / "a" / ".part-killed").write_bytes(b"half")
    assert store.purge() == "" and sorted(p.name for p in (tmp_path / "a").iterdir()) == ["b"]
