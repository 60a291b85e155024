"""Pictures are packed and come back the same, at any depth, with nulls, empty lists and slices."""

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.storage import open_store
from mfhq.schema import MESH_468
from pipelines.engine import commits as blobs

SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("picture", pa.large_binary()),
        pa.field(
            "tracks",
            pa.list_(
                pa.struct(
                    [
                        pa.field("name", pa.string(), nullable=False),
                        pa.field(
                            "faces",
                            pa.list_(pa.struct([pa.field("crop", pa.large_binary()), pa.field("mesh", MESH_468)])),
                        ),
                    ]
                )
            ),
        ),
    ]
)
FACE = st.none() | st.fixed_dictionaries({"crop": st.none() | st.binary(max_size=5), "mesh": st.none()})
TRACK = st.none() | st.fixed_dictionaries(
    {"name": st.text("ab", max_size=2), "faces": st.none() | st.lists(FACE, max_size=3)}
)
ROW = st.fixed_dictionaries(
    {
        "id": st.text("xy", max_size=3),
        "picture": st.none() | st.binary(max_size=5),
        "tracks": st.none() | st.lists(TRACK, max_size=3),
    }
)


@settings(max_examples=60, deadline=None)
@given(rows=st.lists(ROW, max_size=5), start=st.integers(0, 4))
def test_packed_pictures_come_back(rows, start, tmp_path_factory):
    table = pa.Table.from_pylist(rows, schema=SCHEMA).slice(start)
    store = open_store(tmp_path_factory.mktemp("blobs"))
    file = blobs.BlobFile()
    packed = blobs.place(blobs.pack(table, file), "some/file.blobs")
    store.write("some/file.blobs", bytes(file.data))
    assert packed.schema.equals(blobs.stored_schema(SCHEMA))
    assert blobs.resolve(packed, SCHEMA, store).to_pylist() == table.to_pylist()


def test_near_ranges_are_read_in_one_go(tmp_path):
    store = open_store(tmp_path)
    store.write("a", bytes(range(200)))
    reads = []

    class Counting:
        def read(self, path, offset=0, length=None):
            reads.append((path, offset, length))
            return store.read(path, offset, length)

    wanted = [("a", 10, 5), ("a", 100, 3), ("a", 12, 2)]
    assert blobs.read_ranges(Counting(), wanted) == {
        ("a", 10, 5): bytes(range(10, 15)),
        ("a", 12, 2): bytes([12, 13]),
        ("a", 100, 3): bytes([100, 101, 102]),
    }
    assert reads == [("a", 10, 93)]


def test_a_missing_packed_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="gone"):
        blobs.read_ranges(open_store(tmp_path), [("gone.blobs", 0, 1)])
