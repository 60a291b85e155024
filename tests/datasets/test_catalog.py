"""What readers of a corpus get: versions, columns, comments, one-line errors, a data card."""

from __future__ import annotations

import hashlib
import shutil

import pyarrow as pa
import pytest

from infra.storage import open_store
from mfhq.catalog import Catalog, CatalogError, read_blob
from mfhq.named_queries import named_queries
from mfhq.parquet import from_parquet, to_parquet
from mfhq.schema import FACES, IDENTITIES, TABLES
from mfhq.views import DICTIONARY
from pipelines.publishing.publish_tables import publish_tables
from tests.support.raw_views import raw_views


def people(*names):
    rows = [
        {"identity_id": n, "n_tracks": 1, "n_videos": 1, "n_faces": 2, "cohesion": 1.0, "split": "train"} for n in names
    ]
    return {"identities": pa.Table.from_pylist(rows, schema=IDENTITIES)}


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    store = open_store(tmp_path_factory.mktemp("catalog"))
    publish_tables(store, people("b", "a"), about={"preset": {"name": "small", "min_width_px": 40}})
    publish_tables(store, people("a", "b", "c"))
    return store.root


@pytest.fixture
def catalog(published, tmp_path):
    return Catalog(open_store(shutil.copytree(published, tmp_path / "it's [here]*")))


def test_versions(catalog):
    assert catalog.versions() == ["v0001", "v0002"]
    assert catalog.open().version == "v0002" and catalog.open("v1").table("identities").num_rows == 2
    assert catalog.open("v0001").digest != catalog.open("2").digest
    for wrong in ("v3", "latest", "v-1"):
        with pytest.raises(CatalogError, match=f"no snapshot '{wrong}'; there is v0001 to v0002"):
            catalog.open(wrong)


def test_tables_and_columns(catalog):
    snapshot = catalog.open()
    assert snapshot.table("identities", ["n_faces", "identity_id"]).to_pylist()[0] == {"n_faces": 2, "identity_id": "a"}
    assert snapshot.table("faces").schema.equals(FACES) and snapshot.table("attempts").num_rows == 0
    with pytest.raises(CatalogError, match="no table 'people'; there are videos, shots"):
        snapshot.table("people")
    with pytest.raises(CatalogError, match="table identities has no column 'age'; it has identity_id"):
        snapshot.table("identities", ["age"])


def test_a_table_in_parts_reads_only_what_is_asked_for(catalog, monkeypatch):
    names = sorted(hashlib.sha256(bytes([i % 256, i // 256])).hexdigest() for i in range(900))
    monkeypatch.setattr("pipelines.publishing.table_files.ROW_GROUP", 400)
    publish_tables(catalog.store, people(*names))
    snapshot, asked = catalog.open(), []
    parts = list(snapshot.parts("identities", ["split", "identity_id"]))
    assert [(number, len(part)) for number, part in parts] == [(-1, 0), (0, 400), (1, 400), (2, 100)]
    assert pa.concat_tables([part for _, part in parts]).equals(snapshot.table("identities", ["split", "identity_id"]))
    read = type(catalog.store).read

    def counted(store, path, offset=0, length=None):
        asked.append((path, length))
        return read(store, path, offset, length)

    monkeypatch.setattr(type(catalog.store), "read", counted)
    _, (number, part) = snapshot.parts("identities", ["identity_id"], [1])
    assert number == 1 and part["identity_id"].to_pylist() == names[400:800]
    (file,) = snapshot.manifest.tables["identities"].files
    first, *lengths = [length for path, length in asked if path == file.path]
    size = catalog.store.size(file.path)
    assert first == min(size, 1 << 16), "its end, where the row groups are listed"
    assert 400 * 32 < sum(lengths) < 0.5 * size, "half of a sha256 in hexadecimal goes away when it is compressed"
    with pytest.raises(CatalogError, match="table identities has no column 'age'"):
        next(snapshot.parts("identities", ["age"]))


def test_a_lost_file_is_named(catalog):
    snapshot = catalog.open()
    catalog.store.delete(snapshot.manifest.tables["identities"].files[0].path)
    with pytest.raises(CatalogError, match=r"tables/identities/.*: missing, and v0002 needs it"):
        list(snapshot.parts("identities", ["identity_id"]))
    with pytest.raises(CatalogError, match=r"tables/identities/.*: missing, and v0002 needs it"):
        snapshot.table("identities")


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("SELECT * FROM nothing", r"^SQL: no view 'nothing'; `ffavatar sql` with no query lists the views"),
        ("SELEC 1", r"^SQL: Parser Error: syntax error at or near \"SELEC\".*"),
        ("SELECT 1; SELECT 2", r"one query .* at a time"),
        ("", r"one query .* at a time"),
        ("CREATE TABLE x AS SELECT 1", r"one query .* at a time"),
        ("COPY identities TO '/tmp/x.csv'", r"one query .* at a time"),
        ("SELECT CAST(identity_id AS INTEGER) FROM identities", r"^SQL: Conversion Error"),
    ],
)
def test_a_bad_query_is_one_line(catalog, sql, message):
    with pytest.raises(CatalogError, match=message) as caught:
        catalog.open().query(sql)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "sql",
    ["SELECT count(*) n FROM identities", "SUMMARIZE identities", "DESCRIBE faces", "SHOW TABLES", "FROM identities"],
)
def test_queries(catalog, sql):
    assert catalog.open().query(sql).num_rows


def test_named_queries_run_on_any_corpus(catalog):
    assert {"funnel", "people", "cost"} <= set(named_queries())
    for name, question in named_queries().items():
        assert question.sql.startswith(f"-- {question.question}"), name
        assert catalog.open().query(f"@{name}").column_names
    with pytest.raises(CatalogError, match="no query '@nothing'; `ffavatar sql --list` lists @changes, @cost"):
        catalog.open().query("@nothing")


def test_every_column_says_what_it_means(catalog):
    with raw_views(catalog.open(), biometric=True, trusted=True) as connection:
        comments = connection.execute("SELECT view_name, comment FROM duckdb_views() WHERE NOT internal").fetchall()
        columns = connection.execute(
            "SELECT table_name, column_name, comment FROM duckdb_columns() WHERE NOT internal AND comment IS NOT NULL"
        ).fetchall()
    about = dict(comments)
    assert set(about) == {*TABLES, DICTIONARY} and about["faces"].startswith("one row is one face in one frame")
    described = {(table, column): comment for table, column, comment in columns}
    assert set(described) == {(name, f.name) for name, schema in TABLES.items() for f in schema}
    assert described["faces", "x0"] == "left edge of the face box [px]"
    units = catalog.open().query(
        f"SELECT unit FROM {DICTIONARY} WHERE table_name = 'faces' AND column_name = 'yaw_deg'"
    )
    assert units.to_pylist() == [{"unit": "deg"}]


def test_a_truncated_image_is_an_error(catalog):
    catalog.store.write("some.blobs", b"12345")
    assert read_blob(catalog.store, {"uri": "some.blobs", "offset": 1, "length": 3}) == b"234"
    for uri in ("some.blobs", "gone.blobs"):
        with pytest.raises(CatalogError, match=f"{uri} at 3: . of an image's 9 bytes"):
            read_blob(catalog.store, {"uri": uri, "offset": 3, "length": 9})


def test_a_fixed_size_list_with_nulls_survives_parquet():
    rows = [{f.name: "x" for f in FACES if f.type == pa.string()} | {"frame_index": i} for i in range(3)]
    rows[1]["mesh468"] = [1.0] * 1404
    table = pa.Table.from_pylist(rows, schema=FACES)
    assert from_parquet(to_parquet(table), FACES).equals(table)
    assert to_parquet(table) == to_parquet(table.slice(0))
    assert from_parquet(to_parquet(table), FACES, ["mesh468"]).column_names == ["mesh468"]
