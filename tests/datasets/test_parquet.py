"""Tables to Parquet and back: whole, some columns, or some fields of the structs in a list."""

from __future__ import annotations

import pyarrow as pa
import pytest

from mfhq.parquet import from_parquet, prune_schema, to_parquet

FACE = pa.struct(
    [
        pa.field("face_id", pa.string(), nullable=False),
        pa.field("mesh", pa.list_(pa.float32(), 2)),
        pa.field("score", pa.float32()),
    ]
)
TRACK = pa.struct([pa.field("track_id", pa.string()), pa.field("faces", pa.list_(FACE)), pa.field("n", pa.int32())])
SCHEMA = pa.schema([pa.field("video_id", pa.string(), nullable=False), pa.field("tracks", pa.list_(TRACK))])
FACES = [{"face_id": "f", "mesh": [1.0, 2.0], "score": 0.5}, {"face_id": "g", "mesh": None, "score": None}]
ROWS = [
    {"video_id": "v", "tracks": [{"track_id": "t", "faces": FACES, "n": 2}]},
    {"video_id": "w", "tracks": None},
    {"video_id": "x", "tracks": [{"track_id": "u", "faces": None, "n": 0}, {"track_id": "y", "faces": [], "n": 0}]},
]


@pytest.fixture(scope="module")
def data() -> bytes:
    return to_parquet(pa.Table.from_pylist(ROWS, schema=SCHEMA))


def test_what_was_written_is_read(data):
    table = from_parquet(data, SCHEMA)
    assert table.schema == SCHEMA and table.to_pylist() == ROWS
    assert from_parquet(data, SCHEMA, ["video_id"]).to_pylist() == [{"video_id": row["video_id"]} for row in ROWS]


def test_some_fields_of_structs_in_lists_are_read_alone(data):
    columns = ["tracks.faces.score", "tracks.faces.face_id", "tracks.n", "video_id"]
    table = from_parquet(data, SCHEMA, columns)
    assert table.schema == prune_schema(SCHEMA, columns) and table.column_names == ["tracks", "video_id"]
    first, second, third = table.to_pylist()
    faces = [{"score": 0.5, "face_id": "f"}, {"score": None, "face_id": "g"}]
    assert first == {"tracks": [{"faces": faces, "n": 2}], "video_id": "v"} and second["tracks"] is None
    assert third["tracks"] == [{"faces": None, "n": 0}, {"faces": [], "n": 0}]
    assert prune_schema(SCHEMA, ["tracks", "tracks.n"]) == pa.schema([SCHEMA.field("tracks")])
    with pytest.raises(KeyError, match="nothing"):
        prune_schema(SCHEMA, ["tracks.nothing"])
