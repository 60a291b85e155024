"""Cases for a reviewer: the least cohesive people, pairs that were nearly merged, the largest people, random ones."""

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
    RANDOM: "drawn by shuffled, so that you see what is usual",
}


@dataclass(frozen=True)
class ReviewedPerson:
    """Columns of ``identities`` from which the people to review are chosen."""

    identity_id: str
    n_tracks: int
    cohesion: float | None


@dataclass(frozen=True)
class Case:
    """A person, or a pair of people, to review."""

    why: str
    """Reason: a key of ``REASONS``."""
    identity_id: str
    other_id: str = ""
    """The second person of a pair."""
    score: float | None = None
    """Cohesion of one person, or cosine similarity of two people's mean directions."""


def choose_cases(
    people: Sequence[ReviewedPerson],
    pairs: Sequence[Match],
    decided: Collection[str],
    each: int = 20,
    seed: str = "",
) -> list[Case]:
    """Choose people and pairs of people for review; a person is alone in at most one case.

    The same arguments give the same cases.

    Args:
        people: All people.
        pairs: Pairs of similar people, the most similar first.
        decided: People all of whose tracks have a reviewer's decision: they are left out, and so are pairs of two such
            people.
        each: Upper bound on the cases for each of ``REASONS``.
        seed: Determines the random cases.

    Returns:
        The cases, in the order of ``REASONS``.
    """
    open_people = sorted((p for p in people if p.identity_id not in decided), key=lambda p: p.identity_id)
    several = [p for p in open_people if p.n_tracks > 1]
    shuffled = np.random.default_rng(seed_of(f"review:{seed}")).permutation(len(several)).tolist()
    by_reason = {
        LEAST_COHESIVE: sorted((p for p in several if p.cohesion is not None), key=lambda p: p.cohesion or 0.0),
        LARGEST: sorted(several, key=lambda p: -p.n_tracks),
        RANDOM: [several[i] for i in shuffled],
    }
    cases: list[Case] = []
    chosen: set[str] = set()
    for why in REASONS:
        if why == NEARLY_MERGED:
            known = {p.identity_id for p in people}
            open_pairs = [p for p in pairs if {p.one, p.other} <= known and not {p.one, p.other} <= set(decided)]
            cases += [Case(why, p.one, p.other, p.similarity) for p in open_pairs[:each]]
            continue
        for person in [p for p in by_reason[why] if p.identity_id not in chosen][:each]:
            chosen.add(person.identity_id)
            cases.append(Case(why, person.identity_id, score=person.cohesion))
    return cases
