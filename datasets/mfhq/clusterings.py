"""What a clustering itself said, before reviewers' decisions: what the next clustering's ids go on from.

A snapshot's ``assignments`` hold the decided people. Were a new clustering to take its ids from those, a person that a
reviewer split off could take over the one that they were split from; so each clustering's own word is kept beside.
"""

from __future__ import annotations

import pyarrow as pa

from mfhq.layout import clustering_path
from mfhq.parquet import from_parquet, to_parquet
from mfhq.schema import ASSIGNMENTS
from mfhq.store import Store


def record_clustering(store: Store, assignments: pa.Table) -> None:
    """Keep a clustering's own assignments (``mfhq.schema.ASSIGNMENTS``, all of one ``cluster_version``)."""
    for version in assignments["cluster_version"].unique().to_pylist():
        if not store.exists(clustering_path(version)):
            store.write(clustering_path(version), to_parquet(assignments.sort_by("track_id")))


def read_clustering(store: Store, published: pa.Table) -> dict[str, str]:
    """Track to identity as the clustering of these published assignments said; as published where that is not kept."""
    own = dict(zip(published["track_id"].to_pylist(), published["identity_id"].to_pylist(), strict=True))
    for version in published["cluster_version"].unique().to_pylist():
        try:
            table = from_parquet(store.read(clustering_path(version)), ASSIGNMENTS, ["track_id", "identity_id"])
        except FileNotFoundError:
            continue
        own |= dict(zip(table["track_id"].to_pylist(), table["identity_id"].to_pylist(), strict=True))
    return own
