"""Images are packed and come back the same, at any depth, with nulls, empty lists and slices."""

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.storage import open_store
from mfhq.schema import MESH_468
from pipelines.engine.commits import BlobFile, fetch_blobs, pack_blobs, packed_schema, set_blob_uri

SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("image", pa.large_binary()),
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
        "image": st.none() | st.binary(max_size=5),
        "tracks": st.none() | st.lists(TRACK, max_size=3),
    }
)


@settings(max_examples=60, deadline=None)
@given(rows=st.lists(ROW, max_size=5), start=st.integers(0, 4))
def test_packed_images_come_back(rows, start, tmp_path_factory):
    table = pa.Table.from_pylist(rows, schema=SCHEMA).slice(start)
    store = open_store(tmp_path_factory.mktemp("blobs"))
    file = BlobFile()
    packed = set_blob_uri(pack_blobs(table, file), "some/file.blobs")
    store.write("some/file.blobs", bytes(file.data))
    assert packed.schema.equals(packed_schema(SCHEMA))
    assert fetch_blobs(packed, SCHEMA, store).to_pylist() == table.to_pylist()
