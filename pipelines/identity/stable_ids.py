"""Ids of people that stay the same in a new clustering."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from mfhq.ids import digest

MERGE, SPLIT = "merge", "split"


@dataclass(frozen=True, order=True)
class Alias:
    """Id that is no longer used, with the id that replaced it (``mfhq.schema.ALIASES``)."""

    identity_id: str
    now: str
    kind: str
    """``merge`` if all its tracks are one other person's now, ``split`` if they went to several people."""


def stable_identities(
    labels: Sequence[int], track_ids: Sequence[str], previous: Mapping[str, str], retired: Collection[str] = ()
) -> tuple[dict[str, str], list[Alias]]:
    """Give ids to the people of a clustering; people who were in the previous clustering keep theirs.

    A cluster takes over the id with which it shares the most tracks, if no other cluster shares more tracks with it. A
    cluster that takes over no id gets one made from its lowest track id. An id that no cluster takes over, although its
    tracks are still clustered, becomes an alias of the identity that holds most of them. The result does not depend on
    the order of the tracks.

    Args:
        labels: (N,) cluster of each track.
        track_ids: (N,) ids of the tracks.
        previous: Track to identity in the previous clustering.
        retired: Ids that no new person gets.

    Returns:
        Track to identity, and the sorted aliases.
    """
    clusters: dict[int, list[str]] = defaultdict(list)
    for label, track_id in zip(labels, track_ids, strict=True):
        clusters[int(label)].append(track_id)
    members = sorted(sorted(tracks) for tracks in clusters.values())
    shared = Counter(
        (previous[track], number) for number, tracks in enumerate(members) for track in tracks if track in previous
    )
    inherited: dict[int, str] = {}
    surviving: set[str] = set()
    for (identity_id, number), _ in sorted(shared.items(), key=lambda item: (-item[1], item[0])):
        if number not in inherited and identity_id not in surviving:
            inherited[number] = identity_id
            surviving.add(identity_id)
    used = {*previous.values(), *retired}
    assigned: dict[str, str] = {}
    for number, tracks in enumerate(members):
        identity_id = inherited.get(number) or new_id(tracks[0], used)
        used.add(identity_id)
        assigned.update(dict.fromkeys(tracks, identity_id))
    heirs: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for (identity_id, number), count in shared.items():
        if identity_id not in surviving:
            heirs[identity_id].append((-count, assigned[members[number][0]]))
    return assigned, sorted(
        Alias(identity_id, min(heirs_of_id)[1], MERGE if len(heirs_of_id) == 1 else SPLIT)
        for identity_id, heirs_of_id in heirs.items()
    )


def new_id(track_id: str, used: set[str]) -> str:
    """Return an id made from a track's id; never a used one (a split track's first id may be its old person's)."""
    attempt = 0
    while (identity_id := digest(["identity", track_id, attempt], 24)) in used:
        attempt += 1
    return identity_id
