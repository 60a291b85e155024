"""Rendered captures as the published tables: cameras, captures, views, identities."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from mfhq.schema import CAMERAS, CAPTURES, IDENTITIES, OK, VIEWS

DATASET, LICENCE = "studio", "CC0-1.0"
"""What the studio renders is made of CC0 data."""


def capture_tables(rendered: pa.Table) -> dict[str, pa.Table]:
    """The tables ``cameras``, ``captures``, ``views`` and ``identities`` of a capture corpus.

    ``rendered`` holds rows of ``pipelines.studio.captures.RENDERED`` with the pictures where the engine put them
    (``mfhq.schema.BLOB_REF``). Captures that did not render (their status is not ok) are left out; the ledger has them.
    Raises ``ValueError`` for rows that still hold the pictures' bytes.
    """
    views_type = rendered.schema.field("views").type
    if pa.types.is_large_binary(views_type.value_type.field("image").type):
        raise ValueError("rendered captures hold pictures' bytes: give the step's stored output, which refers to them")
    captures = [row for row in rendered.to_pylist() if row["status"] == OK]
    rows: dict[str, list[dict[str, Any]]] = {"cameras": [], "captures": [], "views": [], "identities": []}
    people: dict[str, str] = {}
    for capture in captures:
        ids = {"capture_id": capture["capture_id"], "identity_id": capture["identity_id"]}
        people[capture["identity_id"]] = capture["split"]
        rows["captures"].append(
            ids
            | {
                "dataset": DATASET,
                "licence": LICENCE,
                "n_cameras": len(capture["cameras"]),
                "n_frames": len(capture["truth"]),
            }
        )
        rows["cameras"] += [{"capture_id": capture["capture_id"]} | camera for camera in capture["cameras"]]
        rows["views"] += [
            ids | view | {"split": capture["split"], "status": OK, "reason": ""} for view in capture["views"]
        ]
    rows["identities"] = [
        {"identity_id": person, "n_tracks": 0, "n_videos": 0, "n_faces": 0, "cohesion": None, "split": split}
        for person, split in sorted(people.items())
    ]
    schemas = {"cameras": CAMERAS, "captures": CAPTURES, "views": VIEWS, "identities": IDENTITIES}
    return {name: pa.Table.from_pylist(rows[name], schema=schema) for name, schema in schemas.items()}
