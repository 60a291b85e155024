"""Which tracks show the same person: average linkage over their embeddings, with what time rules out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.cluster.hierarchy import ClusterNode, linkage, to_tree
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial.distance import squareform

Vectors = npt.NDArray[np.float32]

APART = 2.0
"""The largest cosine distance: that of two tracks that cannot be one person."""

_BLOCK = 4096


@dataclass(frozen=True, kw_only=True, slots=True)
class Presence:
    """Where a track is seen: two tracks of one video that share a frame show two people."""

    video_id: str
    start_frame: int
    end_frame: int
    """Exclusive."""


def cluster_tracks(
    track_ids: Sequence[str],
    vectors: Vectors,
    presences: Sequence[Presence],
    threshold: float,
    same_picture: float = 0.75,
) -> npt.NDArray[np.int64]:
    """(N,) label of each track; tracks with one label are one person. Labels count from 0 by their lowest track id.

    ``vectors`` (N, D) are unit embeddings; average linkage joins what is nearer than ``threshold`` (cosine distance).
    Two tracks that are visible at once in one video are never joined, unless they are alike by ``same_picture`` (cosine
    similarity) or more: then a person and an inset of the same person are seen. The order changes nothing.

    Exact, in memory for the largest group of tracks that are linked by distances under ``threshold``, not for all
    pairs: an average under the threshold needs a pair under it.
    """
    if not len(track_ids):
        return np.empty(0, np.int64)
    order = np.argsort(np.asarray(track_ids, dtype=object), kind="stable")
    unit = np.asarray(vectors, np.float32)[order]
    apart = _apart([presences[i] for i in order], unit, same_picture)
    found = np.full(len(order), -1, np.int64)
    n_labels = 0
    for members in _groups(unit, apart, threshold):
        for cluster in _split(members, unit, apart, threshold):
            found[cluster] = n_labels
            n_labels += 1
    # labels by lowest position, which is lowest track id
    _, first = np.unique(found, return_index=True)
    renamed = np.empty(n_labels, np.int64)
    renamed[np.argsort(first)] = np.arange(n_labels)
    labels = np.empty_like(found)
    labels[order] = renamed[found]
    return labels


def _apart(presences: Sequence[Presence], unit: Vectors, same_picture: float) -> set[tuple[int, int]]:
    """Pairs (i < j) that are visible at once in one video and not alike."""
    in_video: dict[str, list[int]] = defaultdict(list)
    for i, presence in enumerate(presences):
        in_video[presence.video_id].append(i)
    pairs = set()
    for members in in_video.values():
        members.sort(key=lambda i: presences[i].start_frame)
        for a, i in enumerate(members):
            for j in members[a + 1 :]:
                if presences[j].start_frame >= presences[i].end_frame:
                    break
                if float(unit[i] @ unit[j]) < same_picture:
                    pairs.add((min(i, j), max(i, j)))
    return pairs


def _groups(unit: Vectors, apart: set[tuple[int, int]], threshold: float) -> list[npt.NDArray[np.int64]]:
    """Connected groups of the graph of pairs nearer than ``threshold``, found block by block."""
    n = len(unit)
    rows, columns = [], []
    for start in range(0, n, _BLOCK):
        near = 1 - unit[start : start + _BLOCK] @ unit.T <= threshold + 1e-6
        i, j = np.nonzero(near)
        keep = i + start < j
        rows.append(i[keep] + start)
        columns.append(j[keep])
    pairs = zip(np.concatenate(rows).tolist(), np.concatenate(columns).tolist(), strict=True)
    i, j = np.asarray([pair for pair in pairs if pair not in apart], np.int64).reshape(-1, 2).T
    _, labels = connected_components(coo_array((np.ones(len(i), np.int8), (i, j)), shape=(n, n)), directed=False)
    by_label = np.argsort(labels, kind="stable")
    return np.split(by_label, np.flatnonzero(np.diff(labels[by_label])) + 1)


def _split(
    members: npt.NDArray[np.int64], unit: Vectors, apart: set[tuple[int, int]], threshold: float
) -> list[npt.NDArray[np.int64]]:
    """Average linkage in one group, cut at the threshold, and lower where a cluster would hold a pair of ``apart``."""
    if len(members) == 1:
        return [members]
    own = unit[members].astype(np.float64)
    distance = np.clip(1 - own @ own.T, 0, APART)
    place = {int(i): a for a, i in enumerate(members)}
    inside = sorted((place[i], place[j]) for i, j in apart if i in place and j in place)
    for a, b in inside:
        distance[a, b] = distance[b, a] = APART
    np.fill_diagonal(distance, 0)
    # rounded: a sum's last bit depends on the matrix product's blocking, a tie must not
    tree = to_tree(linkage(np.round(squareform(distance, checks=False), 6), "average"))
    clusters = []
    pending: list[ClusterNode] = [tree]
    while pending:
        node = pending.pop()
        leaves = set(node.pre_order())
        if node.dist <= threshold and not any(a in leaves and b in leaves for a, b in inside):
            clusters.append(members[sorted(leaves)])
        else:
            pending += [node.get_left(), node.get_right()]
    return clusters
