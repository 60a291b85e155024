"""A snapshot is published, read and asked with SQL on a folder and on S3 alike."""

from __future__ import annotations

import duckdb
import pyarrow as pa
import pytest

from mfhq.catalog import Catalog, CatalogError, read_blob
from mfhq.corpus_tables import record_run
from mfhq.schema import CAMERAS, CAPTURES, TABLES, VIEWS
from pipelines.publishing.publish_tables import publish_tables
from tests.support.raw_views import raw_views


def publish_capture(store):
    store.write("captures/c.blobs", b"image")
    camera = {
        "capture_id": "c",
        "camera_id": "a",
        "K": [float(i) for i in range(9)],
        "distortion": [],
        "world_to_camera": [0.0] * 12,
        "width": 8,
        "height": 8,
    }
    capture = {"capture_id": "c", "identity_id": "p", "dataset": "studio", "n_cameras": 1, "n_frames": 2}
    views = [
        {
            "view_id": f"v{i}",
            "capture_id": "c",
            "identity_id": "p",
            "camera_id": "a",
            "frame_index": i,
            "split": "train",
            "image": {"uri": "captures/c.blobs", "offset": i, "length": 5 - i},
            "status": "ok",
            "reason": "",
        }
        for i in range(2)
    ]
    rows = {"cameras": ([camera], CAMERAS), "captures": ([capture], CAPTURES), "views": (views, VIEWS)}
    tables = {name: pa.Table.from_pylist(row, schema=schema) for name, (row, schema) in rows.items()}
    return publish_tables(store, tables, run_id="r")


def test_publish_read_and_query(store):
    ref = publish_capture(store)
    assert ref.version == "v0001" and publish_capture(store).created is False
    snapshot = Catalog(store).open()
    views = snapshot.table("views")
    assert views.schema.equals(VIEWS) and views.num_rows == 2
    assert read_blob(store, views["image"][1].as_py()) == b"mage"
    asked = snapshot.query(
        "SELECT view_id, image.length, camera.K[9] k FROM views v JOIN cameras camera USING (capture_id) ORDER BY 1"
    )
    assert asked.to_pylist() == [{"view_id": "v0", "length": 5, "k": 8.0}, {"view_id": "v1", "length": 4, "k": 8.0}]
    record_run(store, "train-1", "pretrain", snapshot=ref.version)
    assert snapshot.query("SELECT run_id, snapshot FROM runs").to_pylist() == [
        {"run_id": "train-1", "snapshot": "v0001"}
    ]


def test_every_view_is_there_with_its_types_also_when_empty(store):
    publish_capture(store)
    with Catalog(store).open().connect(biometric=True) as connection:
        for name, schema in TABLES.items():
            described = connection.execute(f"DESCRIBE {name}").fetchall()
            assert [row[0] for row in described] == schema.names, name
        assert connection.execute("SELECT count(*), max(crop.length) FROM faces").fetchall() == [(0, None)]
        types = {row[0]: row[1] for row in connection.execute("DESCRIBE faces").fetchall()}
    assert types["mesh468"] == "FLOAT[]" and types["crop"].startswith("STRUCT") and types["x0"] == "FLOAT"


def test_nothing_beside_the_snapshot_is_read(store):
    """Neither another object of the same bucket by its path, nor a file of the snapshot past its view."""
    publish_capture(store)
    snapshot = Catalog(store).open()
    (file,) = snapshot.manifest.tables["views"].files
    store.write("tables/views/other.parquet", store.read(file.path))
    root = "" if store.uri.startswith("file:") else "s3://"
    with raw_views(snapshot) as connection:
        assert connection.execute("SELECT count(*) FROM views").fetchall() == [(2,)]
        with pytest.raises(duckdb.PermissionException):
            connection.execute("FROM read_blob($1)", [root + store.url("tables/views/other.parquet")]).fetchall()
    for path in ("tables/views/other.parquet", file.path):
        for source in ("'{}'", "read_parquet('{}')", "read_text('{}')"):
            with pytest.raises(CatalogError, match=r"no view|refused"):
                snapshot.query("FROM " + source.format(root + store.url(path)))


def test_nothing_published(store):
    with pytest.raises(CatalogError, match="no snapshot is published here; `ffavatar mine` publishes one"):
        Catalog(store).open()
