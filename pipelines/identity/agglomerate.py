"""Average linkage over a sparse graph, by merging clusters that are each other's nearest, round after round.

For unit vectors the average of all cosine similarities between two clusters is the inner product of their means, so no
matrix of pairs is needed. Merging all reciprocal nearest clusters at once gives what merging the nearest pair of all
gives, one after the other, since average linkage is reducible (Bruynooghe 1977; Sumengen et al., "Scaling hierarchical
agglomerative clustering to billion-sized datasets", 2021). A bridge between two people does not join them: the
average over all their tracks does not reach the threshold.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pipelines.identity.constraints import Integers, Vectors, likeness_of


def agglomerate(
    sums: Vectors,
    sizes: Integers,
    i: npt.NDArray[np.integer],
    j: npt.NDArray[np.integer],
    apart: Integers,
    at_least: float,
    frozen: npt.NDArray[np.bool_] | None = None,
) -> Integers:
    """(M,) label of each of M groups of tracks after merging; labels are the lowest group's number.

    Args:
        sums: (M, D) sum of each group's unit vectors; overwritten.
        sizes: (M,) tracks of each group; overwritten.
        i, j: pairs of groups that may be merged: candidates, not promises.
        apart: (P, 2) pairs of groups that must never end up together.
        at_least: average cosine similarity from which two groups are one person.
        frozen: (M,) groups of which no two may be merged; by default none.
    """
    n = len(sums)
    label, kept = np.arange(n), np.zeros(n, bool) if frozen is None else frozen.copy()
    means = (sums / sizes[:, None]).astype(np.float32)
    edges = _edges(i, j, n)
    likeness = likeness_of(means, edges // n, edges % n)
    forbidden = _edges(apart[:, 0], apart[:, 1], n)
    while True:
        keep = (likeness >= at_least) & ~np.isin(edges, forbidden) & ~(kept[edges // n] & kept[edges % n])
        edges, likeness = edges[keep], likeness[keep]
        low, high = _mutual(edges // n, edges % n, likeness, n)
        if not len(low):
            return label
        sums[low] += sums[high]
        sizes[low] += sizes[high]
        kept[low] |= kept[high]
        means[low] = sums[low] / sizes[low, None]
        moved = np.arange(n)
        moved[high] = low
        label = moved[label]
        changed = np.zeros(n, bool)
        changed[low] = True
        before = edges
        edges = _edges(moved[edges // n], moved[edges % n], n)
        forbidden = _edges(moved[forbidden // n], moved[forbidden % n], n)
        anew = changed[edges // n] | changed[edges % n]
        known = np.searchsorted(before, edges[~anew])
        likeness, old = np.empty(len(edges)), likeness
        likeness[~anew] = old[known]
        likeness[anew] = likeness_of(means, edges[anew] // n, edges[anew] % n)


def _edges(i: npt.NDArray[np.integer], j: npt.NDArray[np.integer], n: int) -> Integers:
    """Each pair once, as one number, ascending; pairs of a group with itself are left out."""
    low, high = np.minimum(i, j).astype(np.int64), np.maximum(i, j).astype(np.int64)
    return np.unique(low[low != high] * n + high[low != high])


def _mutual(low: Integers, high: Integers, likeness: npt.NDArray[np.float64], n: int) -> tuple[Integers, Integers]:
    """Pairs that are each other's nearest; of equally near ones the lowest number."""
    one, other = np.concatenate([low, high]), np.concatenate([high, low])
    order = np.lexsort((other, -np.concatenate([likeness, likeness]), one))
    who, first = np.unique(one[order], return_index=True)
    nearest = np.full(n, -1)
    nearest[who] = other[order][first]
    mutual = who[(nearest[nearest[who]] == who) & (who < nearest[who])]
    return mutual, nearest[mutual]
