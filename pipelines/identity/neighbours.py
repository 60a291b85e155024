"""Search for near pairs of unit vectors: exact in a small set, and in overlapping blocks of a large one.

Within a block the search is exact, by matrix products, tile by tile. A large set is divided into blocks such that
neighbours meet in at least one of them: every vector is put into the blocks of its nearest centroids. Two similar
vectors have nearly the same nearest centroids, so it is improbable that they share none, and the more so the more
blocks each vector is put into. Blocks keep their size when the corpus grows, so the total work grows with the size of
the corpus and not with its square. The blocks of a large corpus are the items of a step of the engine: any machine can
search one, and its output is committed when it is done.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from threadpoolctl import threadpool_limits

from mfhq.ids import digest
from mfhq.schema import OK
from mfhq.store import Store
from pipelines.engine.step import Resources, Step
from pipelines.identity.constraints import Vectors

SEARCH_WIDTH = 128
"""Largest number of dimensions of the vectors in the search; wider embeddings are projected."""
NEAREST = 8
"""Number of neighbours that a block reports per vector; more only if connected vectors would be separated otherwise."""
HALF_PRECISION_ERROR = 1e-3
"""Error of cosine similarities of half-precision vectors; the least similarity of the search is lowered by it."""

Rows = npt.NDArray[np.int64]

BLOCKS = pa.schema(
    [
        pa.field("block_id", pa.string(), nullable=False),
        pa.field("path", pa.string(), nullable=False),
        pa.field("rows", pa.int64(), nullable=False),
        pa.field("at_least", pa.float64(), nullable=False),
    ]
)
"""Schema of a block: the file ``path`` holds the rows' numbers (int32), then their vectors (float16, row by row)."""

NEIGHBOURS = pa.schema(
    [
        pa.field("block_id", pa.string(), nullable=False),
        pa.field("status", pa.string(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("i", pa.list_(pa.int32())),
        pa.field("j", pa.list_(pa.int32())),
        pa.field("likeness", pa.list_(pa.float32())),
    ]
)
"""Schema of the near pairs of a block; ``i`` and ``j`` are the rows' numbers."""

_CHUNK = 32_768
_CELLS = 4 << 20
"""Number of similarities to centroids that one thread holds in memory."""
_FOLDS = 16
_SAMPLE_PER_CENTROID, _LEAST_SAMPLE = 40, 50_000
_ROUNDS = 3
_TILE, _TILE_COLUMNS = 256, 4096
"""Rows and columns of a matrix product: small enough to stay in a core's cache until it is compared."""


@dataclass(frozen=True)
class Pairs:
    """Pairs of rows (within one set i < j) that may show one person."""

    i: npt.NDArray[np.int32]
    """(P,) first row of each pair."""
    j: npt.NDArray[np.int32]
    """(P,) second row of each pair."""
    similarity: npt.NDArray[np.float32]
    """(P,) cosine similarity, possibly of projected or half-precision vectors."""

    @classmethod
    def none(cls) -> Pairs:
        """Return an empty set of pairs."""
        return cls(np.empty(0, np.int32), np.empty(0, np.int32), np.empty(0, np.float32))

    @classmethod
    def joined(cls, parts: list[Pairs]) -> Pairs:
        """Return the pairs of all ``parts``, one after the other."""
        if not parts:
            return cls.none()
        i, j, similarity = (np.concatenate([getattr(p, name) for p in parts]) for name in ("i", "j", "similarity"))
        return cls(i, j, similarity)


def near_pairs(vectors: Vectors, at_least: float, nearest: int = NEAREST) -> Pairs:
    """Find pairs of rows with a cosine similarity of ``at_least`` or more.

    For each row, only the ``nearest`` of its pairs with later rows are returned. Further pairs are added so that all
    rows that the omitted pairs connect stay connected.

    Args:
        vectors: (N, d) unit vectors.
        at_least: Least cosine similarity of a pair.
        nearest: Neighbours of a row to report.
    """
    return _search(vectors, vectors, at_least, nearest, after=True)


def cross_pairs(rows: Vectors, columns: Vectors, at_least: float, nearest: int = NEAREST) -> Pairs:
    """Find near pairs of a row i of one set and a row j of another, as ``near_pairs`` does within one set.

    Args:
        rows: (N, d) unit vectors.
        columns: (M, d) unit vectors.
        at_least: Least cosine similarity of a pair.
        nearest: Neighbours of a row to report.
    """
    return _search(rows, columns, at_least, nearest, after=False)


def _search(rows: Vectors, columns: Vectors, at_least: float, nearest: int, after: bool) -> Pairs:
    similarity, near = np.empty(_TILE * _TILE_COLUMNS, np.float32), np.empty(_TILE * _TILE_COLUMNS, bool)
    parts = []
    for start in range(0, len(rows), _TILE):
        stop = min(start + _TILE, len(rows))
        found = []
        for left in range(start if after else 0, len(columns), _TILE_COLUMNS):
            right = min(left + _TILE_COLUMNS, len(columns))
            shape, size = (stop - start, right - left), (stop - start) * (right - left)
            np.matmul(rows[start:stop], columns[left:right].T, out=similarity[:size].reshape(shape))
            hits = np.flatnonzero(np.greater_equal(similarity[:size], at_least, out=near[:size]))
            i, j = np.divmod(hits, right - left)
            i, j, value = i + start, j + left, similarity[hits]
            own = i < j if after else slice(None)
            found.append((i[own], j[own], value[own]))
        if found:
            i, j, value = (np.concatenate(part) for part in zip(*found, strict=True))
            chosen = _capped(i, j if after else j + len(rows), value, nearest)
            parts.append(Pairs(i[chosen].astype(np.int32), j[chosen].astype(np.int32), value[chosen]))
    return Pairs.joined(parts)


def _capped(
    i: npt.NDArray[np.int64], j: npt.NDArray[np.int64], similarity: Vectors, nearest: int
) -> npt.NDArray[np.int64]:
    """Return the indices of the nearest pairs of each row, and of those that ``_torn`` adds."""
    counts = np.bincount(i) if len(i) else np.empty(0, np.int64)
    if not len(i) or counts.max() <= nearest:
        return np.lexsort((j, i))
    order = np.lexsort((j, -similarity, i))
    rank = np.arange(len(i)) - np.repeat(np.cumsum(counts) - counts, counts)
    kept = order[rank < nearest]
    return np.concatenate([kept, _torn(i, j, kept)])


def _torn(i: npt.NDArray[np.int64], j: npt.NDArray[np.int64], kept: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return the indices of pairs that connect rows which only the omitted pairs connect."""
    n = int(j.max()) + 1
    label = label_components(n, i[kept], j[kept])
    across = np.flatnonzero(label[i] != label[j])
    low, high = np.minimum(label[i[across]], label[j[across]]), np.maximum(label[i[across]], label[j[across]])
    _, first = np.unique(low.astype(np.int64) * n + high, return_index=True)
    return across[first]


def label_components(n: int, i: npt.NDArray[np.integer], j: npt.NDArray[np.integer]) -> npt.NDArray[np.int32]:
    """Return (n,) numbers: the connected component of each row in the graph of the pairs (i, j)."""
    return connected_components(coo_array((np.ones(len(i), np.int8), (i, j)), shape=(n, n)), directed=False)[1]


@dataclass(frozen=True)
class Partition:
    """Projection of the vectors, and centroids of the blocks."""

    projection: Vectors
    """(D, d) orthonormal columns: the directions that hold most of the vectors' squared length."""
    centroids: Vectors
    """(B, d) unit vectors, one per block."""

    def project(self, unit: Vectors) -> Vectors:
        """Project (N, D) unit vectors, and return (N, d) unit vectors for the search."""
        found = np.empty((len(unit), self.projection.shape[1]), np.float32)
        for at in range(0, len(unit), _CHUNK):
            part = unit[at : at + _CHUNK] @ self.projection
            found[at : at + _CHUNK] = part / np.maximum(np.linalg.norm(part, axis=1, keepdims=True), 1e-9)
        return found

    def nearest(self, projected: Vectors, copies: int) -> npt.NDArray[np.int32]:
        """Return the blocks of each vector.

        Args:
            projected: (N, d) unit vectors.
            copies: Number of blocks per vector.

        Returns:
            (N, copies) numbers of blocks, in no particular order.
        """
        copies = min(copies, len(self.centroids))
        found = np.empty((len(projected), copies), np.int32)
        padding = np.zeros((-len(self.centroids) % _FOLDS, self.centroids.shape[1]), np.float32)
        centroids = np.concatenate([self.centroids, padding]).T
        rows = max(_CELLS // centroids.shape[1], 64)

        def search(at: int) -> None:
            similarity = projected[at : at + rows] @ centroids
            similarity[:, len(self.centroids) :] = -np.inf
            found[at : at + rows] = _largest(similarity, copies)

        with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(os.cpu_count()) as pool:
            for _ in pool.map(search, range(0, len(projected), rows)):
                pass
        return found


def _largest(values: Vectors, k: int) -> npt.NDArray[np.int64]:
    """Return (N, k) column numbers of the k largest values of each row of (N, B), in no particular order.

    B is a multiple of ``_FOLDS``. The columns are folded onto each other, ``_FOLDS`` per slot: the k largest values lie
    in the k slots with the largest maxima. Finding these slots takes a few vector operations, whereas partitioning
    complete rows would be most of the search's work.
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
    """Fit a projection and, by spherical k-means, centroids to a sample of the vectors.

    Args:
        unit: (N, D) unit vectors.
        n_blocks: Number of centroids.
        seed: Determines the sample and the first centroids.
    """
    random = np.random.default_rng(seed)
    n, width = unit.shape
    size = min(n, max(_SAMPLE_PER_CENTROID * n_blocks, _LEAST_SAMPLE))
    sample = unit[np.sort(random.choice(n, size, replace=False))]
    projection = np.eye(width, dtype=np.float32)
    if width > SEARCH_WIDTH:
        few = sample[:_LEAST_SAMPLE].astype(np.float64)
        with threadpool_limits(1, user_api="blas"):  # on a busy machine several threads take ten times as long
            _, directions = np.linalg.eigh(few.T @ few)
        projection = np.ascontiguousarray(directions[:, : -SEARCH_WIDTH - 1 : -1], np.float32)
    partition = Partition(projection, np.empty((0, projection.shape[1]), np.float32))
    points = partition.project(sample)
    centroids = points[random.choice(size, n_blocks, replace=False)]
    for _ in range(_ROUNDS):
        nearest = Partition(projection, centroids).nearest(points, 1)[:, 0]
        centroids = _update_centroids(points, nearest, centroids)
    return Partition(projection, centroids)


def _update_centroids(points: Vectors, nearest: npt.NDArray[np.int32], before: Vectors) -> Vectors:
    """Return the mean directions of the points of each centroid; a centroid without points stays unchanged."""
    order = np.argsort(nearest, kind="stable")
    numbers, first = np.unique(nearest[order], return_index=True)
    sums = np.add.reduceat(points[order], first, axis=0)
    made = before.copy()
    made[numbers] = sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-9)
    return made


def block_members(blocks: npt.NDArray[np.int32], n_blocks: int) -> Iterator[Rows]:
    """Yield the rows of each block, ascending.

    Args:
        blocks: (N, copies) numbers of each row's blocks.
        n_blocks: Number of blocks.
    """
    copies = blocks.shape[1]
    order = np.argsort(blocks.ravel(), kind="stable")
    ends = np.cumsum(np.bincount(blocks.ravel(), minlength=n_blocks))
    for start, end in zip([0, *ends[:-1]], ends, strict=True):
        yield order[start:end] // copies


def write_blocks(store: Store, projected: Vectors, members: Sequence[Rows], at_least: float) -> pa.Table:
    """Write the files of all blocks for workers to read; a file that exists is not written again.

    Args:
        store: Store for the files.
        projected: (N, d) unit vectors.
        members: Rows of each block.
        at_least: Least cosine similarity of a pair.

    Returns:
        One row per block, schema ``BLOCKS``.
    """
    rows = []
    for number, block in enumerate(members):
        path = f"blocks/{number:08d}"
        if not store.exists(path):
            store.write(path, block.astype(np.int32).tobytes() + projected[block].astype(np.float16).tobytes())
        rows.append(
            {
                "block_id": digest([number, at_least], 32),
                "path": path,
                "rows": len(block),
                "at_least": at_least - HALF_PRECISION_ERROR,
            }
        )
    return pa.Table.from_pylist(rows, schema=BLOCKS)


def neighbours_step(store: Store) -> Step:
    """Return the step from blocks (``BLOCKS``) to near pairs (``NEIGHBOURS``); ``store`` holds the blocks' files."""
    return Step(
        name="neighbours",
        version=1,
        key="block_id",
        input=BLOCKS,
        output=NEIGHBOURS,
        load=partial(_pass_store, store),
        fn=search_stored_blocks,
        resources=Resources(cpus=1, batch=4),
    )


def search_stored_blocks(store: Store, blocks: pa.Table) -> pa.Table:
    """Find the near pairs of some blocks; ``blocks`` has schema ``BLOCKS``, the result ``NEIGHBOURS``."""
    found = []
    for row in blocks.to_pylist():
        data, n = store.read(row["path"]), row["rows"]
        numbers = np.frombuffer(data, np.int32, n)
        vectors = np.frombuffer(data, np.float16, offset=4 * n).reshape(n, -1).astype(np.float32)
        pairs = near_pairs(vectors, row["at_least"])
        found.append(
            {
                "block_id": row["block_id"],
                "status": OK,
                "reason": "",
                "i": numbers[pairs.i],
                "j": numbers[pairs.j],
                "likeness": pairs.similarity,
            }
        )
    return pa.Table.from_pylist(found, schema=NEIGHBOURS)


def read_pairs(found: pa.Table) -> Pairs:
    """Return all pairs of ``NEIGHBOURS`` rows."""
    i, j, similarity = (
        pa.concat_arrays(found[name].chunks).flatten().to_numpy() if found.num_rows else np.empty(0)
        for name in ("i", "j", "likeness")
    )
    return Pairs(i.astype(np.int32), j.astype(np.int32), similarity.astype(np.float32))


def _pass_store(store: Store) -> Store:
    return store
