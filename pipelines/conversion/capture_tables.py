"""The published tables of converted captures: cameras, captures, views, identities, participants."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from mfhq.schema import CAMERAS, CAPTURES, IDENTITIES, OK, PARTICIPANTS, VIEWS
from pipelines.engine.nested_tables import conform_to_schema, explode

CAPTURE_COLUMNS = ("capture_id", "identity_id", "dataset", "licence", "split")
"""Columns that are the same for all items of a capture."""


def capture_tables(converted: pa.Table) -> dict[str, pa.Table]:
    """Flatten converted items into the tables ``cameras``, ``captures``, ``views`` and ``identities``.

    Args:
        converted: One row per item, with ``pipelines.conversion.capture_schemas.CAPTURE_FIELDS``; a capture has one or
            more items. Images are references into the engine's store (``mfhq.schema.BLOB_REF``). Items whose status is
            not ok are skipped; the ledger holds them.

    Returns:
        The tables by name.

    Raises:
        ValueError: The rows hold images as bytes, or items of one capture differ in ``CAPTURE_COLUMNS``.
    """
    views_type = converted.schema.field("views").type
    if pa.types.is_large_binary(views_type.value_type.field("image").type):
        raise ValueError("converted captures hold images' bytes: pass the step's stored output, which refers to them")
    items = converted.filter(pc.equal(converted["status"], OK)).combine_chunks()
    cameras = _first(explode(items, "cameras", ["capture_id"]), ["capture_id", "camera_id"])
    views = explode(items, "views", ["capture_id", "identity_id"])
    captures = _first(items.select(CAPTURE_COLUMNS), ["capture_id"])
    if _first(items.select(CAPTURE_COLUMNS), CAPTURE_COLUMNS).num_rows != captures.num_rows:
        raise ValueError(
            "items of one capture differ in identity, data set, licence or split; convert the complete capture again"
        )
    counts = {
        name: pa.array(_count(table, captures["capture_id"], column), pa.int32())
        for name, table, column in (("n_cameras", cameras, "camera_id"), ("n_frames", views, "frame_index"))
    }
    people = _first(captures, ["identity_id"])
    zeros = pa.array([0] * people.num_rows, pa.int32())
    return {
        "cameras": conform_to_schema(_columns(cameras), CAMERAS),
        "captures": conform_to_schema(_columns(captures) | counts, CAPTURES),
        "views": conform_to_schema(_columns(views), VIEWS),
        "identities": conform_to_schema(
            _columns(people) | dict.fromkeys(("n_tracks", "n_videos", "n_faces"), zeros), IDENTITIES
        ),
    }


def participants_table(participants: Mapping[str, Mapping[str, str]], identities: pa.Table) -> pa.Table:
    """Return the table ``participants``, which holds the facts that a data set states about people.

    Args:
        participants: ``identity_id`` → name of the fact → value; empty values are skipped.
        identities: The table ``identities``; people who are not in it are skipped.
    """
    published = set(identities["identity_id"].to_pylist())
    rows = [
        {"identity_id": person, "name": name, "value": value}
        for person, facts in sorted(participants.items())
        if person in published
        for name, value in sorted(facts.items())
        if value
    ]
    return pa.Table.from_pylist(rows, schema=PARTICIPANTS)


def _first(table: pa.Table, key: Sequence[str]) -> pa.Table:
    """Return the first row for each value of the key, sorted by the key."""
    index = pa.array(range(table.num_rows), pa.int64())
    firsts = table.select(key).append_column("_row", index).group_by(list(key)).aggregate([("_row", "min")])
    return table.take(firsts.sort_by([(name, "ascending") for name in key])["_row_min"])


def _count(table: pa.Table, captures: pa.ChunkedArray, column: str) -> list[int]:
    """Return, for each capture, the number of distinct values in a column of its rows."""
    counted = table.group_by("capture_id").aggregate([(column, "count_distinct")])
    by_capture = dict(
        zip(*(c.to_pylist() for c in counted.select(["capture_id", f"{column}_count_distinct"])), strict=True)
    )
    return [by_capture.get(capture, 0) for capture in captures.to_pylist()]


def _columns(table: pa.Table) -> dict[str, pa.ChunkedArray]:
    return dict(zip(table.column_names, table.columns, strict=True))
