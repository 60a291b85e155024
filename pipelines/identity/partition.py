"""Cut a large set of unit vectors into overlapping blocks, so that neighbours meet in at least one of them.

Every vector goes into the ``copies`` blocks whose pivots are nearest to it. Two vectors that are alike have nearly
the same nearest pivots, so the chance that they share none of them is small, and falls fast with the number of copies.
Blocks keep their size when the corpus grows, and so the work in all of them grows with the corpus, not its square.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

Vectors = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]

SEARCH_WIDTH = 128
"""Numbers a vector that blocks are searched with: wider embeddings are projected."""

_CHUNK = 32_768
_CELLS = 4 << 20
"""Similarities to pivots that a thread holds at once."""
_FOLDS = 16
_SAMPLE_A_PIVOT, _LEAST_SAMPLE = 40, 50_000
_ROUNDS = 3


@dataclass(frozen=True)
class Partition:
    """Where vectors belong: a projection and the blocks' pivots."""

    projection: Vectors
    """(D, d) orthonormal columns: the directions in which the vectors' energy lies."""
    pivots: Vectors
    """(B, d) unit vectors, one a block."""

    def project(self, unit: Vectors) -> Vectors:
        """(N, d) unit vectors for the search, from (N, D)."""
        found = np.empty((len(unit), self.projection.shape[1]), np.float32)
        for at in range(0, len(unit), _CHUNK):
            part = unit[at : at + _CHUNK] @ self.projection
            found[at : at + _CHUNK] = part / np.maximum(np.linalg.norm(part, axis=1, keepdims=True), 1e-9)
        return found

    def nearest(self, projected: Vectors, copies: int) -> npt.NDArray[np.int32]:
        """(N, copies) blocks of each projected vector, in no order."""
        copies = min(copies, len(self.pivots))
        found = np.empty((len(projected), copies), np.int32)
        padding = np.zeros((-len(self.pivots) % _FOLDS, self.pivots.shape[1]), np.float32)
        pivots = np.concatenate([self.pivots, padding]).T
        rows = max(_CELLS // pivots.shape[1], 64)

        def search(at: int) -> None:
            likeness = projected[at : at + rows] @ pivots
            likeness[:, len(self.pivots) :] = -np.inf
            found[at : at + rows] = _largest(likeness, copies)

        with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(os.cpu_count()) as pool:
            for _ in pool.map(search, range(0, len(projected), rows)):
                pass
        return found


def _largest(values: Vectors, k: int) -> npt.NDArray[np.int64]:
    """(N, k) columns of the k largest of each row (N, B), in no order; B is a multiple of ``_FOLDS``.

    The columns are folded upon each other, ``_FOLDS`` to a place: the k largest lie in the k places with the largest
    maxima. Finding those is a few vector operations, where partitioning whole rows is most of the search's work.
    """
    if k == 1:
        return values.argmax(axis=1)[:, None]
    n, places = len(values), values.shape[1] // _FOLDS
    if places <= k:
        return np.argpartition(values, -k, axis=1)[:, -k:]
    maxima = values.reshape(n, _FOLDS, places).max(axis=1)
    place = np.argpartition(maxima, -k, axis=1)[:, -k:]
    columns = (place[:, None, :] + places * np.arange(_FOLDS)[:, None]).reshape(n, -1)
    best = np.argpartition(np.take_along_axis(values, columns, 1), -k, axis=1)[:, -k:]
    return np.take_along_axis(columns, best, 1)


def make_partition(unit: Vectors, n_blocks: int, seed: int) -> Partition:
    """Fit a projection and pivots (spherical k-means on a sample) to unit vectors (N, D); the seed says all chances."""
    random = np.random.default_rng(seed)
    n, width = unit.shape
    size = min(n, max(_SAMPLE_A_PIVOT * n_blocks, _LEAST_SAMPLE))
    sample = unit[np.sort(random.choice(n, size, replace=False))]
    projection = np.eye(width, dtype=np.float32)
    if width > SEARCH_WIDTH:
        few = sample[:_LEAST_SAMPLE].astype(np.float64)
        with threadpool_limits(1, user_api="blas"):  # on a busy machine several threads take ten times as long
            _, directions = np.linalg.eigh(few.T @ few)
        projection = np.ascontiguousarray(directions[:, : -SEARCH_WIDTH - 1 : -1], np.float32)
    partition = Partition(projection, np.empty((0, projection.shape[1]), np.float32))
    points = partition.project(sample)
    pivots = points[random.choice(size, n_blocks, replace=False)]
    for _ in range(_ROUNDS):
        nearest = Partition(projection, pivots).nearest(points, 1)[:, 0]
        pivots = _centres(points, nearest, pivots)
    return Partition(projection, pivots)


def _centres(points: Vectors, nearest: npt.NDArray[np.int32], before: Vectors) -> Vectors:
    """The mean directions of the points of each pivot; a pivot without points stays."""
    order = np.argsort(nearest, kind="stable")
    which, first = np.unique(nearest[order], return_index=True)
    sums = np.add.reduceat(points[order], first, axis=0)
    made = before.copy()
    made[which] = sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-9)
    return made


def block_members(blocks: npt.NDArray[np.int32], n_blocks: int) -> Iterator[Rows]:
    """The rows of each block, ascending, from (N, copies) blocks of each row."""
    copies = blocks.shape[1]
    order = np.argsort(blocks.ravel(), kind="stable")
    ends = np.cumsum(np.bincount(blocks.ravel(), minlength=n_blocks))
    for start, end in zip([0, *ends[:-1]], ends, strict=True):
        yield order[start:end] // copies
