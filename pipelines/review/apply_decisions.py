"""Reviewers' decisions applied to a clustering: the people that are published."""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from dataclasses import replace

import pyarrow as pa

from mfhq.schema import ALIASES
from pipelines.identity.assign import Clustering
from pipelines.identity.overrides import apply_decisions
from pipelines.identity.stable_ids import MERGE, SPLIT

log = logging.getLogger(__name__)


def apply_review(
    clustering: Clustering, published: pa.Table, known_aliases: pa.Table, decisions: pa.Table
) -> Clustering:
    """Apply every decision to a clustering; a decision overrides the clustering.

    Args:
        clustering: The clustering, before review.
        published: ``assignments`` of the newest snapshot, in which earlier decisions are applied; an id in it that is
            no longer in use becomes an alias.
        known_aliases: ``aliases`` of the newest snapshot, through which a decision finds a person whose id has changed.
        decisions: All decisions that were ever saved.
    """
    if not decisions.num_rows:
        return clustering
    fresh = set(clustering.aliases["identity_id"].to_pylist())
    earlier = [row for row in known_aliases.to_pylist() if row["identity_id"] not in fresh]
    aliases = pa.concat_tables([pa.Table.from_pylist(earlier, schema=ALIASES), clustering.aliases.cast(ALIASES)])
    reviewed = apply_decisions(clustering.assignments, aliases, decisions)
    if reviewed.ignored:
        reasons = Counter(reviewed.ignored.values())
        log.info("decisions without effect now: %s", ", ".join(f"{n} {why}" for why, n in sorted(reasons.items())))
    removed = _aliases_of_removed(
        published, reviewed.assignments, set(reviewed.aliases["identity_id"].to_pylist()), clustering.version
    )
    return replace(clustering, assignments=reviewed.assignments, aliases=pa.concat_tables([reviewed.aliases, removed]))


def _aliases_of_removed(published: pa.Table, assignments: pa.Table, aliased: set[str], version: str) -> pa.Table:
    """Return aliases of published ids that are no longer in use, although their tracks are still clustered."""
    now = dict(zip(assignments["track_id"].to_pylist(), assignments["identity_id"].to_pylist(), strict=True))
    used, heirs = set(now.values()) | aliased, defaultdict[str, Counter[str]](Counter)
    for track, identity in zip(published["track_id"].to_pylist(), published["identity_id"].to_pylist(), strict=True):
        if identity not in used and track in now:
            heirs[identity][now[track]] += 1
    rows = [
        {
            "identity_id": identity,
            "now": min(counts, key=lambda heir: (-counts[heir], heir)),
            "kind": MERGE if len(counts) == 1 else SPLIT,
            "cluster_version": version,
        }
        for identity, counts in sorted(heirs.items())
    ]
    return pa.Table.from_pylist(rows, schema=ALIASES)
