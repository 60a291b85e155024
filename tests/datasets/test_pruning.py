"""Rows and list elements out of nested tables: against a plain Python version, on tables drawn at random."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from mfhq.pruning import collect_references, prune
from mfhq.schema import BLOB_REF

FACE = pa.struct([("face_id", pa.string()), ("crop", BLOB_REF), ("vector", pa.list_(pa.float32()))])
TRACK = pa.struct([("track_id", pa.string()), ("faces", pa.list_(FACE)), ("status", pa.string())])
SCHEMA = pa.schema([("video_id", pa.string()), ("tracks", pa.list_(TRACK)), ("best", TRACK), ("error", pa.string())])

name = st.sampled_from(["a", "b", "gone", "lost", None])
place = st.none() | st.builds(
    lambda u, o: {"uri": u, "offset": o, "length": 1, "sha256": "gone"},
    st.sampled_from(["gone", "y"]),
    st.integers(0, 9),
)
face = st.none() | st.fixed_dictionaries(
    {"face_id": name, "crop": place, "vector": st.none() | st.lists(st.just(0.5), max_size=2)}
)
track = st.none() | st.fixed_dictionaries(
    {"track_id": name, "faces": st.none() | st.lists(face, max_size=3), "status": st.just("gone")}
)
row = st.fixed_dictionaries(
    {"video_id": name, "tracks": st.none() | st.lists(track, max_size=3), "best": track, "error": st.just("gone")}
)
WITHDRAWN = {"gone", "lost"}


def is_withdrawn(values):
    return np.array([value in WITHDRAWN for value in values.to_pylist()], bool)


def plain_track(value):
    """A track without its withdrawn faces."""
    if value is None:
        return value
    faces = value["faces"]
    kept = faces if faces is None else [f for f in faces if f is None or f["face_id"] not in WITHDRAWN]
    return value | {"faces": kept}


def plain(rows):
    kept = []
    for value in rows:
        if value["video_id"] in WITHDRAWN or (value["best"] or {}).get("track_id") in WITHDRAWN:
            continue
        tracks = value["tracks"]
        if tracks is not None:
            tracks = [plain_track(t) for t in tracks if t is None or t["track_id"] not in WITHDRAWN]
        kept.append(value | {"tracks": tracks, "best": plain_track(value["best"])})
    return kept


@settings(max_examples=150, deadline=None)
@given(st.lists(row, max_size=4), st.lists(row, max_size=2))
def test_it_is_what_a_plain_version_gives(first, second):
    parts = [pa.Table.from_pylist(rows, schema=SCHEMA) for rows in (first, second)]
    table = pa.concat_tables(parts)
    pruned = prune(table, is_withdrawn)
    pruned.validate(full=True)
    assert pruned.schema.equals(SCHEMA) and pruned.to_pylist() == plain(table.to_pylist())
    assert prune(pruned, is_withdrawn) is pruned, "what is clean comes back as it is"
    assert collect_references(pruned) <= collect_references(table)


def test_it_finds_every_image():
    ref = {"uri": "f", "offset": 3, "length": 4}
    inner = {"face_id": "a", "crop": ref | {"offset": 9}}
    table = pa.Table.from_pylist(
        [
            {
                "video_id": "a",
                "tracks": [{"track_id": "a", "faces": [{"face_id": "b", "crop": ref}]}],
                "best": {"track_id": "c", "faces": [inner]},
            }
        ],
        schema=SCHEMA,
    )
    assert collect_references(table) == {("f", 3, 4), ("f", 9, 4)}
