"""Rows by an SQL condition, and differences between two states of a table."""

from __future__ import annotations

import pyarrow as pa
import pytest

from mfhq.catalog import CatalogError
from mfhq.diff import diff_tables
from mfhq.schema import FACES, SHOTS
from mfhq.where import rows_where

ROWS = pa.table({"a": [1, 5, None, 3], "b": ["x", "y", "x", "z"]})


def test_rows_that_meet_a_condition():
    assert rows_where(ROWS, "a > 2 OR b = 'x'", "--where").to_pylist() == [True, True, True, True]
    assert rows_where(ROWS, "b LIKE '--%' OR a BETWEEN 2 AND 5", "--where").to_pylist() == [False, True, False, True]


@pytest.mark.parametrize(
    ("condition", "said"),
    [
        ("c > 2", r"--where 'c > 2': .*c.*; the columns are a, b"),
        ("a >", r"--where 'a >'"),
        ("true); DROP TABLE x; SELECT (1", "one SQL condition is needed"),
        ("a IN (SELECT a FROM read_csv('/etc/passwd'))", "--where"),
    ],
)
def test_what_is_no_condition_is_one_line(condition, said):
    with pytest.raises(CatalogError, match=said) as caught:
        rows_where(ROWS, condition, "--where")
    assert "\n" not in str(caught.value)


def face(number, **values):
    place = {"uri": values.pop("uri", "p"), "offset": 0, "length": 3, "sha256": values.pop("sha", "s")}
    row = {
        "face_id": f"f{number}",
        "track_id": "t",
        "video_id": "v",
        "frame_index": number,
        "status": "ok",
        "reason": "",
        "crop": place,
        "sharpness": 1.0,
    }
    return row | values


def test_added_removed_changed_and_moved_outcomes():
    before = pa.Table.from_pylist([face(0), face(1), face(2), face(3)], schema=FACES)
    rows = [face(1), face(2, status="rejected", reason="blurred"), face(3, sha="other", uri="q"), face(4), face(5)]
    diff = diff_tables("faces", before, pa.Table.from_pylist(rows, schema=FACES))
    assert (diff.before, diff.after, diff.added, diff.removed, diff.changed) == (4, 5, 2, 1, 2)
    assert diff.columns == {"status": 1, "reason": 1, "crop": 1} and diff.outcomes == {("ok", "blurred"): 1}


def test_the_location_of_an_image_is_no_change_and_keys_of_two_columns_work():
    moved = [pa.Table.from_pylist([face(0, uri=uri)], schema=FACES) for uri in ("here", "there")]
    assert diff_tables("faces", *moved).same
    shots = [
        pa.Table.from_pylist(
            [
                {"video_id": "v", "shot_index": i, "start_frame": 0, "end_frame": end, "transition": "none"}
                for i, end in enumerate(ends)
            ],
            schema=SHOTS,
        )
        for ends in ((5, 9), (5, 8, 9))
    ]
    diff = diff_tables("shots", *shots)
    assert (diff.added, diff.removed, diff.changed, diff.columns) == (1, 0, 1, {"end_frame": 1})
