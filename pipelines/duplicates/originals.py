"""Choice of the original among copies."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pipelines.duplicates.copy_search import Copy


def choose_originals(copies: Iterable[Copy], order: Mapping[int, Any]) -> dict[int, list[Copy]]:
    """Choose originals, so that each copy is a direct copy of its original.

    The shots are gone through in their order. A shot that is a copy of an original before it is a duplicate of it; any
    other is an original itself. So there are no chains: what is like a duplicate, but not like its original, is none.

    Args:
        copies: Pairs of shots that are copies.
        order: The place of each shot among all, by its number: the better one of two copies comes first.

    Returns:
        Number of a duplicate → its pairs with originals, the nearest one first.
    """
    partners: dict[int, list[Copy]] = {}
    for copy in copies:
        for shot in (copy.one, copy.other):
            partners.setdefault(shot, []).append(copy)
    originals: set[int] = set()
    found: dict[int, list[Copy]] = {}
    for shot in sorted(partners, key=lambda number: order[number]):
        own = [copy for copy in partners[shot] if other_of(copy, shot) in originals]
        if own:
            found[shot] = sorted(own, key=lambda copy: (copy.match.distance, order[other_of(copy, shot)]))
        else:
            originals.add(shot)
    return found


def other_of(copy: Copy, shot: int) -> int:
    """Return the number of the shot with which a shot makes a pair."""
    return copy.other if shot == copy.one else copy.one
