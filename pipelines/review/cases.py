"""Which people deserve a reviewer's eye: the least cohesive, pairs that were nearly one, the largest, some by lot."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mfhq.ids import seed_of

LEAST_COHESIVE, NEARLY_MERGED, LARGEST, RANDOM = "least cohesive", "nearly merged", "largest", "random"
REASONS = {
    LEAST_COHESIVE: "the tracks are less alike than those of others",
    NEARLY_MERGED: "no two people look more alike",
    LARGEST: "one of those with the most tracks, where a wrong one hides well",
    RANDOM: "drawn by lot, so that you see what is usual",
}

MOST_QUERIES = 20_000
"""People whose nearest other person is looked for: those with the most tracks. One block of them against a million
others, 512 wide, is 2 TFLOP a thousand."""
_BLOCK = 1024

Vectors = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Person:
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


def centres(identity_of: Mapping[str, str], track_ids: Sequence[str], means: Vectors) -> tuple[list[str], Vectors]:
    """(ids ascending, (P, D) unit centres) of the people of the tracks; ``means`` (T, D) are unit vectors."""
    known = [(identity_of[track], row) for row, track in enumerate(track_ids) if track in identity_of]
    if not known:
        return [], np.zeros((0, 0), np.float32)
    ids, place = np.unique([identity for identity, _ in known], return_inverse=True)
    sums = np.zeros((len(ids), means.shape[1]), np.float64)
    np.add.at(sums, place, means[[row for _, row in known]])
    return ids.tolist(), (sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-12)).astype(np.float32)


def nearest_pairs(ids: Sequence[str], unit: Vectors, worth: Mapping[str, int]) -> list[tuple[float, str, str]]:
    """(similarity, one, other) of each person and the most similar other, most similar first, each pair once.

    Exact, for the ``MOST_QUERIES`` people of most ``worth``.
    """
    if len(ids) < 2:
        return []
    queries = sorted(range(len(ids)), key=lambda i: (-worth.get(ids[i], 0), ids[i]))[:MOST_QUERIES]
    found: dict[tuple[str, str], float] = {}
    for start in range(0, len(queries), _BLOCK):
        block = np.asarray(queries[start : start + _BLOCK])
        similarity = unit[block] @ unit.T
        similarity[np.arange(len(block)), block] = -2
        nearest = similarity.argmax(axis=1)
        for row, (i, j) in enumerate(zip(block.tolist(), nearest.tolist(), strict=True)):
            one, other = sorted((ids[i], ids[j]))
            found[one, other] = round(float(similarity[row, j]), 4)
    return sorted(((score, *pair) for pair, score in found.items()), key=lambda entry: (-entry[0], *entry[1:]))


def choose_cases(
    people: Sequence[Person],
    pairs: Sequence[tuple[float, str, str]],
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
            fresh = [p for p in pairs if {p[1], p[2]} <= known and not {p[1], p[2]} <= set(decided)]
            cases += [Case(why, one, other, score) for score, one, other in fresh[:each]]
            continue
        for person in [p for p in by_reason[why] if p.identity_id not in taken][:each]:
            taken.add(person.identity_id)
            cases.append(Case(why, person.identity_id, score=person.cohesion))
    return cases
