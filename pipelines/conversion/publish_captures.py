"""Publication of converted captures in the corpus's next snapshot, in addition to its earlier content."""

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
    """Publish converted captures.

    The other captures of the newest snapshot stay as they are. If a capture is converted again, its new rows replace
    all of its earlier rows; likewise, new facts about a person replace the earlier ones. A person stays in the corpus
    if they have mined tracks or other captures.

    Args:
        store: The corpus.
        tables: Name → table: the tables of ``capture_tables``, and that of ``participants_table`` if the data set
            states facts about people.
        run_id: Id of the run that publishes.
        about: Further content of the snapshot's manifest.

    Returns:
        Reference to the new snapshot.

    Raises:
        AuditError: The result would be inconsistent (for example, one person in two splits); nothing is published.
    """
    catalog = Catalog(store)
    merged = dict(tables)
    if catalog.versions():
        newest = catalog.open()
        earlier = {name: newest.table(name) for name in ("cameras", "captures", "views", "identities")}
        converted = tables["captures"]["capture_id"].combine_chunks()
        for name in ("cameras", "captures", "views"):
            rows = earlier[name]
            unchanged = pc.invert(pc.is_in(rows["capture_id"], value_set=converted))
            merged[name] = pa.concat_tables([rows.filter(unchanged), tables[name].cast(rows.schema)])
        replaced = earlier["captures"].filter(pc.is_in(earlier["captures"]["capture_id"], value_set=converted))
        removed = set(replaced["identity_id"].to_pylist()) - set(merged["captures"]["identity_id"].to_pylist())
        removed -= set(newest.table("assignments")["identity_id"].to_pylist())
        new = set(tables["identities"]["identity_id"].to_pylist())
        people = earlier["identities"]
        unchanged = pa.array([person not in removed | new for person in people["identity_id"].to_pylist()], pa.bool_())
        merged["identities"] = pa.concat_tables([people.filter(unchanged), tables["identities"].cast(people.schema)])
        facts = newest.table("participants")
        if facts.num_rows or "participants" in tables:
            unchanged = [person not in removed | new for person in facts["identity_id"].to_pylist()]
            added = tables["participants"].cast(facts.schema) if "participants" in tables else facts.slice(0, 0)
            merged["participants"] = pa.concat_tables([facts.filter(pa.array(unchanged, pa.bool_())), added])
    return publish_tables(store, merged, run_id=run_id, about=about)
