"""Converted captures as the published tables: cameras, captures, views, identities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from mfhq.schema import CAMERAS, CAPTURES, IDENTITIES, OK, PARTICIPANTS, VIEWS
from pipelines.publishing.unnest import explode, fit

KEPT = ("capture_id", "identity_id", "dataset", "licence", "split")


def capture_tables(converted: pa.Table) -> dict[str, pa.Table]:
    """The tables ``cameras``, ``captures``, ``views`` and ``identities`` of converted items.

    ``converted`` holds rows with ``pipelines.conversion.capture_schemas.CAPTURE_FIELDS``, one or several a capture, with the
    pictures where the engine put them (``mfhq.schema.BLOB_REF``). Items whose status is not ok are left out; the
    ledger has them. Raises ``ValueError`` for rows that still hold the pictures' bytes, and for items of one capture
    that contradict each other.
    """
    views_type = converted.schema.field("views").type
    if pa.types.is_large_binary(views_type.value_type.field("image").type):
        raise ValueError("converted captures hold pictures' bytes: give the step's stored output, which refers to them")
    items = converted.filter(pc.equal(converted["status"], OK)).combine_chunks()
    cameras = _first(explode(items, "cameras", ["capture_id"]), ["capture_id", "camera_id"])
    views = explode(items, "views", ["capture_id", "identity_id"])
    captures = _first(items.select(KEPT), ["capture_id"])
    if _first(items.select(KEPT), KEPT).num_rows != captures.num_rows:
        raise ValueError("items of one capture differ in identity, data set, licence or split; convert it again whole")
    counts = {
        name: pa.array(_count(table, captures["capture_id"], column), pa.int32())
        for name, table, column in (("n_cameras", cameras, "camera_id"), ("n_frames", views, "frame_index"))
    }
    people = _first(captures, ["identity_id"])
    zeros = pa.array([0] * people.num_rows, pa.int32())
    return {
        "cameras": fit(_columns(cameras), CAMERAS),
        "captures": fit(_columns(captures) | counts, CAPTURES),
        "views": fit(_columns(views), VIEWS),
        "identities": fit(_columns(people) | dict.fromkeys(("n_tracks", "n_videos", "n_faces"), zeros), IDENTITIES),
    }


def participants_table(participants: Mapping[str, Mapping[str, str]], identities: pa.Table) -> pa.Table:
    """The table ``participants``: what a data set says of those who are among ``identities``, less what is empty."""
    here = set(identities["identity_id"].to_pylist())
    rows = [
        {"identity_id": person, "name": name, "value": value}
        for person, words in sorted(participants.items())
        if person in here
        for name, value in sorted(words.items())
        if value
    ]
    return pa.Table.from_pylist(rows, schema=PARTICIPANTS)


def _first(table: pa.Table, key: Sequence[str]) -> pa.Table:
    """The first row of each key, in the order of the key."""
    index = pa.array(range(table.num_rows), pa.int64())
    firsts = table.select(key).append_column("_row", index).group_by(list(key)).aggregate([("_row", "min")])
    return table.take(firsts.sort_by([(name, "ascending") for name in key])["_row_min"])


def _count(table: pa.Table, captures: pa.ChunkedArray, column: str) -> list[int]:
    """For each capture how many different values of a column its rows have."""
    counted = table.group_by("capture_id").aggregate([(column, "count_distinct")])
    found = dict(zip(*(c.to_pylist() for c in counted.select(["capture_id", f"{column}_count_distinct"])), strict=True))
    return [found.get(capture, 0) for capture in captures.to_pylist()]


def _columns(table: pa.Table) -> dict[str, pa.ChunkedArray]:
    return dict(zip(table.column_names, table.columns, strict=True))
