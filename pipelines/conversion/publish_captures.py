"""Converted captures into the corpus's next snapshot, beside what is there already."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from mfhq.catalog import Catalog
from mfhq.store import Store
from pipelines.publishing.publish_tables import SnapshotRef, publish_tables


def publish_captures(
    store: Store, tables: Mapping[str, pa.Table], *, run_id: str = "", about: Mapping[str, Any] | None = None
) -> SnapshotRef:
    """Publish ``capture_tables`` and, where a data set says something of people, ``participants_table``.

    Captures of the newest snapshot that are not among these stay as they are; one that is converted again replaces all
    of its earlier rows, and a person what was said of them. People who were mined, or whose other captures stay, are
    kept.

    Raises:
        AuditError: the result would not hold together (a person in two splits, say); nothing is published.
    """
    catalog = Catalog(store)
    merged = dict(tables)
    if catalog.versions():
        newest = catalog.open()
        before = {name: newest.table(name) for name in ("cameras", "captures", "views", "identities")}
        again = tables["captures"]["capture_id"].combine_chunks()
        for name in ("cameras", "captures", "views"):
            rows = before[name]
            stay = pc.invert(pc.is_in(rows["capture_id"], value_set=again))
            merged[name] = pa.concat_tables([rows.filter(stay), tables[name].cast(rows.schema)])
        replaced = before["captures"].filter(pc.is_in(before["captures"]["capture_id"], value_set=again))
        gone = set(replaced["identity_id"].to_pylist()) - set(merged["captures"]["identity_id"].to_pylist())
        gone -= set(newest.table("assignments")["identity_id"].to_pylist())
        new = set(tables["identities"]["identity_id"].to_pylist())
        people = before["identities"]
        keep = pa.array([person not in gone | new for person in people["identity_id"].to_pylist()], pa.bool_())
        merged["identities"] = pa.concat_tables([people.filter(keep), tables["identities"].cast(people.schema)])
        said = newest.table("participants")
        if said.num_rows or "participants" in tables:
            stay = [person not in gone | new for person in said["identity_id"].to_pylist()]
            given = tables["participants"].cast(said.schema) if "participants" in tables else said.slice(0, 0)
            merged["participants"] = pa.concat_tables([said.filter(pa.array(stay, pa.bool_())), given])
    return publish_tables(store, merged, run_id=run_id, about=about)
