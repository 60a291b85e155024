"""Reviewers' decisions (accept, split, merge) applied to a clustering: a decision overrides the clustering.

The input is always the clustering's own assignments and all decisions ever made. The decisions are replayed in the
order in which they were made, so a later one overrides an earlier one, and they have the same meaning for every later
clustering.

- ``accept`` with a track: the track shows this person, whichever person the clustering assigned it to. Without a track:
  all tracks that the person has at that point are right. To keep a person together in later clusterings, write one row
  per track.
- ``split`` with a track: the track does not show this person but ``other_id``. If ``other_id`` is empty, all tracks
  that one reviewer split off the person at the same time (``made_at``) become one new person, whose id depends on the
  lowest track id alone. If the clustering has already assigned such a track to somebody else, the decision has no
  effect.
- ``merge``: ``other_id`` and ``identity_id`` are the same person. The id ``identity_id`` stays, and ``other_id``
  becomes an alias of it.
"""

from __future__ import annotations

import datetime
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from mfhq.ids import digest
from mfhq.schema import ALIASES, ASSIGNMENTS
from pipelines.identity.stable_ids import MERGE, SPLIT

ACCEPT = "accept"
KINDS = (ACCEPT, SPLIT, MERGE)
REVIEW = "review"
"""Value of ``assignments.source`` for a track that a decision assigned."""

TRACK_MISSING = "track_gone"
"""Reason: the clustering does not contain the track of the decision (any more)."""
IDENTITY_MISSING = "identity_gone"
"""Reason: the person of the decision has no track, and no alias leads to a person who has."""
ALREADY_SO = "already_so"
"""Reason: nothing would change: the track to split off is not the person's, or their only one; or the two people to
merge are one already."""
INCOMPLETE = "incomplete"
"""Reason: a split without a track, a merge without another identity, or a kind that is not in ``KINDS``."""

_BEGINNING = datetime.datetime.min.replace(tzinfo=datetime.UTC)


@dataclass(frozen=True)
class ReviewedClustering:
    """Assignments and aliases after review."""

    assignments: pa.Table
    """Rows of ``mfhq.schema.ASSIGNMENTS``, in the clustering's order. A row that a decision set has source ``review``,
    and a null similarity if its person differs from the clustering's.
    """
    aliases: pa.Table
    """Rows of ``mfhq.schema.ALIASES``: those given and those that decisions make; no alias is an id in use."""
    ignored: dict[str, str]
    """Id to reason of each ignored decision: ``track_gone``, ``identity_gone``, ``already_so``, ``incomplete``."""


def apply_decisions(assignments: pa.Table, aliases: pa.Table, decisions: pa.Table) -> ReviewedClustering:
    """Apply decisions to a clustering; a pure function, for which the order of the rows does not matter.

    If two decisions contradict each other, the later one wins (by ``made_at``, then ``decision_id``; a decision without
    a time counts as the earliest). An id that is no longer in use is followed through the aliases. If they lead to no
    person with tracks, the decision is ignored; it stays on record for later clusterings.

    Args:
        assignments: Rows of ``mfhq.schema.ASSIGNMENTS`` of the clustering.
        aliases: Rows of ``mfhq.schema.ALIASES``.
        decisions: Rows of ``mfhq.schema.DECISIONS``.
    """
    if not decisions.num_rows:
        return ReviewedClustering(assignments.cast(ASSIGNMENTS), aliases.cast(ALIASES), {})
    state = _DecidedPeople(assignments, aliases)
    rows = sorted(decisions.to_pylist(), key=lambda row: (row["made_at"] or _BEGINNING, row["decision_id"]))
    groups = _split_groups(rows)
    ignored: dict[str, str] = {}
    for row in rows:
        if reason := _apply(state, row, groups):
            ignored[row["decision_id"]] = reason
    version = next(iter(assignments["cluster_version"].to_pylist()), "")
    return ReviewedClustering(state.assignments(assignments), state.aliases(aliases, version), ignored)


class _DecidedPeople:
    """People and their tracks, while decisions are replayed."""

    def __init__(self, assignments: pa.Table, aliases: pa.Table) -> None:
        columns = (assignments[name].to_pylist() for name in ("track_id", "identity_id"))
        self.clustered: dict[str, str] = dict(zip(*columns, strict=True))
        self.now = dict(self.clustered)
        self.members: defaultdict[str, set[str]] = defaultdict(set)
        for track, identity in self.now.items():
            self.members[identity].add(track)
        columns = (aliases[name].to_pylist() for name in ("identity_id", "now"))
        self.stands_for: dict[str, str] = dict(zip(*columns, strict=True))
        self.reviewed: set[str] = set()

    def find(self, identity: str) -> str | None:
        """Return the id in use that ``identity`` leads to; None if there is none."""
        seen = set()
        while not self.members.get(identity):
            if identity in seen or identity not in self.stands_for:
                return None
            seen.add(identity)
            identity = self.stands_for[identity]
        return identity

    def move(self, track: str, identity: str) -> None:
        self.members[self.now[track]].discard(track)
        self.members[identity].add(track)
        self.now[track] = identity
        self.reviewed.add(track)

    def assignments(self, before: pa.Table) -> pa.Table:
        rows = before.to_pylist()
        for row in rows:
            track = row["track_id"]
            if track in self.reviewed:
                row["source"] = REVIEW
            if self.now[track] != row["identity_id"]:
                row |= {"identity_id": self.now[track], "similarity": None}
        return pa.Table.from_pylist(rows, schema=ASSIGNMENTS)

    def aliases(self, before: pa.Table, version: str) -> pa.Table:
        rows = {row["identity_id"]: row for row in before.to_pylist()}
        for identity, heirs in self._emptied().items():
            _, now = min((-count, heir) for heir, count in heirs.items())
            kind = MERGE if len(heirs) == 1 else SPLIT
            rows[identity] = {"identity_id": identity, "now": now, "kind": kind, "cluster_version": version}
        kept = [
            {**row, "now": self.find(row["now"]) or row["now"]}
            for identity, row in sorted(rows.items())
            if not self.members.get(identity)
        ]
        return pa.Table.from_pylist(kept, schema=ALIASES)

    def _emptied(self) -> dict[str, Counter[str]]:
        """Return, for each of the clustering's people without a track left, the number of its tracks by new person."""
        heirs: defaultdict[str, Counter[str]] = defaultdict(Counter)
        for track, identity in self.clustered.items():
            if not self.members.get(identity):
                heirs[identity][self.now[track]] += 1
        return heirs


def _split_groups(rows: list[dict[str, Any]]) -> Mapping[tuple[Any, ...], str]:
    """Return the new id of each set of tracks that one reviewer split off one person at the same time."""
    tracks: defaultdict[tuple[Any, ...], list[str]] = defaultdict(list)
    for row in rows:
        if row["kind"] == SPLIT and row["track_id"]:
            tracks[_group(row)].append(row["track_id"])
    return {group: digest(["identity", SPLIT, min(found)], 24) for group, found in tracks.items()}


def _group(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return row["identity_id"], row["reviewer"], row["made_at"]


def _apply(people: _DecidedPeople, row: Mapping[str, Any], groups: Mapping[tuple[Any, ...], str]) -> str:
    """Replay one decision; return the reason why it has no effect, or an empty string."""
    kind, track = row["kind"], row["track_id"]
    if kind not in KINDS or (kind == SPLIT and not track) or (kind == MERGE and not row["other_id"]):
        return INCOMPLETE
    if track and kind != MERGE and track not in people.now:
        return TRACK_MISSING
    person = people.find(row["identity_id"])
    other = people.find(row["other_id"]) if row["other_id"] else None
    if person is None or (row["other_id"] and other is None):
        return IDENTITY_MISSING
    if kind == MERGE:
        return _merge(people, person, other or "")
    if kind == SPLIT:
        return _split(people, person, track, other or groups[_group(row)])
    for accepted in [track] if track else sorted(people.members[person]):
        people.move(accepted, person)
    return ""


def _merge(people: _DecidedPeople, person: str, other: str) -> str:
    if person == other:
        return ALREADY_SO
    for track in sorted(people.members[other]):
        people.move(track, person)
    people.stands_for[other] = person
    return ""


def _split(people: _DecidedPeople, person: str, track: str, target: str) -> str:
    if people.now[track] != person or target == person or len(people.members[person]) == 1:
        return ALREADY_SO
    people.move(track, target)
    return ""
