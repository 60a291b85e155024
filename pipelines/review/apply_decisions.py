"""Reviewers' decisions on what a clustering said: the people that are published."""

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


def decided(clustering: Clustering, published: pa.Table, known: pa.Table, decisions: pa.Table) -> Clustering:
    """The clustering with every decision applied: they win, whatever it said.

    Args:
        clustering: its own word.
        published: ``assignments`` of the newest snapshot (decisions of then applied); an id of it that nobody has any
            more becomes an alias.
        known: ``aliases`` of the newest snapshot, by which a decision finds a person who has another id now.
        decisions: all that were ever saved.
    """
    if not decisions.num_rows:
        return clustering
    fresh = set(clustering.aliases["identity_id"].to_pylist())
    older = [row for row in known.to_pylist() if row["identity_id"] not in fresh]
    aliases = pa.concat_tables([pa.Table.from_pylist(older, schema=ALIASES), clustering.aliases.cast(ALIASES)])
    done = apply_decisions(clustering.assignments, aliases, decisions)
    if done.ignored:
        reasons = Counter(done.ignored.values())
        log.info("decisions that say nothing now: %s", ", ".join(f"{n} {why}" for why, n in sorted(reasons.items())))
    lost = _lost(published, done.assignments, set(done.aliases["identity_id"].to_pylist()), clustering.version)
    return replace(clustering, assignments=done.assignments, aliases=pa.concat_tables([done.aliases, lost]))


def _lost(published: pa.Table, assignments: pa.Table, aliased: set[str], version: str) -> pa.Table:
    """Aliases of published people whom nobody is any more, though their tracks are there."""
    now = dict(zip(assignments["track_id"].to_pylist(), assignments["identity_id"].to_pylist(), strict=True))
    used, heirs = set(now.values()) | aliased, defaultdict[str, Counter[str]](Counter)
    for track, identity in zip(published["track_id"].to_pylist(), published["identity_id"].to_pylist(), strict=True):
        if identity not in used and track in now:
            heirs[identity][now[track]] += 1
    rows = [
        {
            "identity_id": identity,
            "now": min(found, key=lambda heir: (-found[heir], heir)),
            "kind": MERGE if len(found) == 1 else SPLIT,
            "cluster_version": version,
        }
        for identity, found in sorted(heirs.items())
    ]
    return pa.Table.from_pylist(rows, schema=ALIASES)
