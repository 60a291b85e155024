"""Lists are read as their makers meant them, or refused in one line; no licence and no consent is lost."""

from __future__ import annotations

import hashlib

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from infra.storage import open_store
from pipelines.engine.sources import read_sources, record_sources
from pipelines.mining.digests import digest_sources
from pipelines.mining.schemas import SOURCES
from pipelines.mining.source_listing import list_sources
from pipelines.mining.source_lists import SourceError, read_list

A, B, LS = "/v/a.mp4", "/v/b.mp4", "/v/ls\u2028sep.mp4"
CC0 = [(A, "CC0", "yes")]

TEXTS = {
    "bom and crlf.csv": (b"\xef\xbb\xbfuri,licence,consent\r\n/v/a.mp4,CC0,yes\r\n", CC0),
    "spaces.csv": (b"uri, licence , consent\n/v/a.mp4, CC0 , yes\n", CC0),
    "license.csv": (b"uri,license,consent\n/v/a.mp4,CC0,yes\n", CC0),
    "capitals.csv": (b"URI,Licence,CONSENT\n/v/a.mp4,CC0,yes\n", CC0),
    "utf16.csv": ("uri,licence,consent\n/v/a.mp4,CC0,yes\n".encode("utf-16"), CC0),
    "quotes.csv": (b'uri,licence\n"/v/new\nline.mp4","CC0, or so"\n', [("/v/new\nline.mp4", "CC0, or so", None)]),
    "u2028.csv": ("uri,licence\n/v/ls\u2028sep.mp4,CC0\n".encode(), [("/v/ls\u2028sep.mp4", "CC0", None)]),
    "short rows.csv": (b"uri,licence\n/v/a.mp4\n,CC0\n/v/b.mp4,\n", [(A, None, None), (B, None, None)]),
    "twice.csv": (b"uri,licence,consent\n/v/a.mp4,CC0,\n/v/b.mp4,,\n/v/../v/a.mp4,,yes\n", [*CC0, (B, None, None)]),
    "u2028.txt": (
        "/v/ls\u2028sep.mp4\n/v/\x85\x0c.mp4\n".encode(),
        [("/v/ls\u2028sep.mp4", None, None), ("/v/\x85\x0c.mp4", None, None)],
    ),
    "comment.txt": (
        b"\xef\xbb\xbf# a comment\r\n\r\n/v/a.mp4 \r\n\t/v/b.mp4\r\n",
        [(A, None, None), (B, None, None)],
    ),
    "latin1.txt": (b"/v/caf\xe9.mp4\n", [("file:///v/caf%E9.mp4", None, None)]),
}

COLUMNS = {
    "bool": ({"uri": [A, B], "consent": [True, False]}, [(A, None, "yes"), (B, None, "no")]),
    "bytes": ({"uri": [A.encode(), b"/v/caf\xe9.mp4"]}, [(A, None, None), ("file:///v/caf%E9.mp4", None, None)]),
    "dictionary": (
        {"uri": pa.array([A]).dictionary_encode(), "License": pa.array(["X"]).dictionary_encode()},
        [(A, "X", None)],
    ),
    "large": (
        {"uri": pa.array([A], pa.large_string()), "licence": pa.array(["CC0"], pa.large_string())},
        [(A, "CC0", None)],
    ),
    "null": ({"uri": [A, None], "licence": pa.nulls(2), "consent": ["", "x"]}, [(A, None, None)]),
}

REFUSED = {
    "int.parquet": ({"uri": [A], "licence": [1]}, "column 'licence' holds int64; write text"),
    "number uri.parquet": ({"uri": [1]}, "column 'uri' holds int64"),
    "no uri.parquet": ({"url": [A]}, r"columns \['url'\]; it needs 'uri'"),
    "both.csv": (b"uri,licence,license\n/v/a.mp4,CC0,MIT\n", "two columns 'licence'"),
    "ragged.csv": (b"uri,licence\n/v/a.mp4\n/v/b.mp4,CC0,extra\n", "row 3 has 3 values for 2 columns"),
    "latin1.csv": (b"uri,licence\n/v/a.mp4,caf\xe9\n", "cannot be read as a list"),
    "semicolon.csv": (b"uri;licence\n/v/a.mp4;CC0\n", "needs 'uri'"),
    "contradiction.csv": (
        b"uri,licence\n/v/a.mp4,CC0\n/v/b.mp4,\n/v/./a.mp4,MIT\n",
        "rows 1 and 3 .* /v/a.mp4: licence 'CC0' and 'MIT'",
    ),
    "header.csv": (b"uri\n", "names no file"),
    "empty.csv": (b"", "names no file"),
    "empty.txt": (b"", "names no file"),
    "http.txt": (b"/v/a.mp4\nhttps://example.org/a.mp4\n", "no file system for https://example.org/a.mp4"),
    "s3.txt": (b"s3://bucket/a.mp4\n", "no file system for s3://bucket/a.mp4"),
}


def rows_of(path):
    return [tuple(row.values()) for row in read_list(path).to_pylist()]


@pytest.mark.parametrize("name", TEXTS)
def test_a_text_list_is_read(tmp_path, name):
    (tmp_path / name).write_bytes(TEXTS[name][0])
    assert rows_of(tmp_path / name) == TEXTS[name][1]


@pytest.mark.parametrize("name", COLUMNS)
def test_a_parquet_list_is_read(tmp_path, name):
    pq.write_table(pa.table(COLUMNS[name][0]), tmp_path / "list.parquet")
    assert rows_of(tmp_path / "list.parquet") == COLUMNS[name][1]


@pytest.mark.parametrize("name", REFUSED)
def test_a_list_is_refused_in_one_line(tmp_path, name):
    content, says = REFUSED[name]
    path = tmp_path / name
    path.write_bytes(content) if isinstance(content, bytes) else pq.write_table(pa.table(content), path)
    for read in (read_list, list_sources):
        with pytest.raises(SourceError, match=says) as error:
            read(path)
        assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_relative_paths_start_at_the_list(tmp_path):
    (tmp_path / "in").mkdir()
    pq.write_table(pa.table({"uri": ["../a.mp4", "b.mp4"]}), tmp_path / "in/list.parquet")
    assert [uri for uri, *_ in rows_of(tmp_path / "in/list.parquet")] == [f"{tmp_path}/a.mp4", f"{tmp_path}/in/b.mp4"]


def test_a_file_mined_again_without_a_list_keeps_licence_and_consent(tmp_path):
    store = open_store(tmp_path / "corpus")
    (tmp_path / "v").mkdir()
    (tmp_path / "v/a.mp4").write_bytes(b"a")
    (tmp_path / "list.csv").write_text("uri,licence,consent\nv/a.mp4,CC0,yes\n")

    def record(source):
        record_sources(store, digest_sources(list_sources(source), store), "video_id")
        return [(r["licence"], r["consent"]) for r in read_sources(store, SOURCES, "video_id").to_pylist()]

    assert record(tmp_path / "list.csv") == [("CC0", "yes")]
    assert record(tmp_path / "v") == [("CC0", "yes")]
    (tmp_path / "v/a.mp4").rename(tmp_path / "v/moved.mp4")
    assert record(tmp_path / "v") == [("CC0", "yes")]
    (tmp_path / "list.csv").write_text("uri,licence\nv/moved.mp4,MIT\n")
    assert record(tmp_path / "list.csv") == [("MIT", "yes")]
    assert read_sources(store, SOURCES, "video_id")["video_id"].to_pylist() == [hashlib.sha256(b"a").hexdigest()]
