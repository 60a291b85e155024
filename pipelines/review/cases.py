"""Which people deserve a reviewer's eye: the least cohesive, pairs that were nearly one, the largest, some by lot."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from mfhq.ids import seed_of
from pipelines.identity.lookalikes import Match

LEAST_COHESIVE, NEARLY_MERGED, LARGEST, RANDOM = "least cohesive", "nearly merged", "largest", "random"
REASONS = {
    LEAST_COHESIVE: "the tracks are less alike than those of others",
    NEARLY_MERGED: "no two people look more alike",
    LARGEST: "one of those with the most tracks, where a wrong one hides well",
    RANDOM: "drawn by lot, so that you see what is usual",
}


@dataclass(frozen=True)
class ReviewedPerson:
    """A row of ``identities``, as far as it says who should be looked at."""

    identity_id: str
    n_tracks: int
    cohesion: float | None


@dataclass(frozen=True)
class Case:
    """One person, or two, to look at."""

    why: str
    """A key of ``REASONS``."""
    identity_id: str
    other_id: str = ""
    """The second person of a pair."""
    score: float | None = None
    """Cohesion of one person, cosine similarity of two people's centres."""


def choose_cases(
    people: Sequence[ReviewedPerson],
    pairs: Sequence[Match],
    decided: Collection[str],
    each: int = 20,
    seed: str = "",
) -> list[Case]:
    """At most ``each`` cases for each of ``REASONS``, in their order; nobody stands alone in two.

    ``decided`` are people whose every track has a reviewer's word already: they are left out, and so are pairs of two
    of them. The same arguments give the same cases.
    """
    open_people = sorted((p for p in people if p.identity_id not in decided), key=lambda p: p.identity_id)
    several = [p for p in open_people if p.n_tracks > 1]
    lot = np.random.default_rng(seed_of(f"review:{seed}")).permutation(len(several)).tolist()
    by_reason = {
        LEAST_COHESIVE: sorted((p for p in several if p.cohesion is not None), key=lambda p: p.cohesion or 0.0),
        LARGEST: sorted(several, key=lambda p: -p.n_tracks),
        RANDOM: [several[i] for i in lot],
    }
    cases: list[Case] = []
    taken: set[str] = set()
    for why in REASONS:
        if why == NEARLY_MERGED:
            known = {p.identity_id for p in people}
            fresh = [p for p in pairs if {p.one, p.other} <= known and not {p.one, p.other} <= set(decided)]
            cases += [Case(why, p.one, p.other, p.likeness) for p in fresh[:each]]
            continue
        for person in [p for p in by_reason[why] if p.identity_id not in taken][:each]:
            taken.add(person.identity_id)
            cases.append(Case(why, person.identity_id, score=person.cohesion))
    return cases
