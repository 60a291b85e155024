"""Cut a large set of unit vectors into overlapping blocks, so that neighbours meet in at least one of them.

Every vector goes into the ``copies`` blocks whose pivots are nearest to it. Two vectors that are alike have nearly
the same nearest pivots, so the chance that they share none of them is small, and falls fast with the number of copies.
Blocks keep their size when the corpus grows, and so the work in all of them grows with the corpus, not its square.

Search the blocks of a large corpus as a step of the engine: each is committed when it is done, on any machine.

Pairs of vectors that are near each other, inside one block: exact, by matrix products, tile by tile.
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


HALF = 1e-3
"""Cosine similarity by which vectors of half precision may be off; the search is more generous by so much."""

BLOCKS = pa.schema(
    [
        pa.field("block_id", pa.string(), nullable=False),
        pa.field("path", pa.string(), nullable=False),
        pa.field("rows", pa.int64(), nullable=False),
        pa.field("at_least", pa.float64(), nullable=False),
    ]
)
"""A block: ``path`` holds the numbers of its rows (int32), then their vectors (float16, row by row)."""

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
"""The near pairs of a block, as numbers of rows."""


def write_blocks(store: Store, projected: Vectors, members: Sequence[Rows], at_least: float) -> pa.Table:
    """Put each block where workers find it (``BLOCKS``); one that is there already is not written again."""
    rows = []
    for number, block in enumerate(members):
        path = f"blocks/{number:08d}"
        if not store.exists(path):
            store.write(path, block.astype(np.int32).tobytes() + projected[block].astype(np.float16).tobytes())
        rows.append(
            {"block_id": digest([number, at_least], 32), "path": path, "rows": len(block), "at_least": at_least - HALF}
        )
    return pa.Table.from_pylist(rows, schema=BLOCKS)


def neighbours_step(store: Store) -> Step:
    """Blocks in (``BLOCKS``), near pairs out (``NEIGHBOURS``); ``store`` holds the blocks' files."""
    return Step(
        name="neighbours",
        version=1,
        key="block_id",
        input=BLOCKS,
        output=NEIGHBOURS,
        load=partial(_given, store),
        fn=search_stored,
        resources=Resources(cpus=1, batch=4),
    )


def search_stored(store: Store, blocks: pa.Table) -> pa.Table:
    """The near pairs of some blocks."""
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
                "likeness": pairs.likeness,
            }
        )
    return pa.Table.from_pylist(found, schema=NEIGHBOURS)


def pairs_of(found: pa.Table) -> Pairs:
    """All pairs of ``NEIGHBOURS`` rows."""
    i, j, likeness = (
        pa.concat_arrays(found[name].chunks).flatten().to_numpy() if found.num_rows else np.empty(0)
        for name in ("i", "j", "likeness")
    )
    return Pairs(i.astype(np.int32), j.astype(np.int32), likeness.astype(np.float32))


def _given(store: Store) -> Store:
    return store


NEAREST = 8
"""Neighbours of a vector that a block reports; more only as far as the block would fall apart without them."""

_TILE, _TILE_COLUMNS = 256, 4096
"""Rows and columns of a matrix product: small enough to stay in a core's cache while it is compared."""


@dataclass(frozen=True)
class Pairs:
    """Pairs of rows (i < j) that may be one person's."""

    i: npt.NDArray[np.int32]
    j: npt.NDArray[np.int32]
    likeness: npt.NDArray[np.float32]
    """Cosine similarity, as far as the search knows it."""

    @classmethod
    def none(cls) -> Pairs:
        """No pairs."""
        return cls(np.empty(0, np.int32), np.empty(0, np.int32), np.empty(0, np.float32))

    @classmethod
    def joined(cls, parts: list[Pairs]) -> Pairs:
        """All pairs of several."""
        if not parts:
            return cls.none()
        i, j, likeness = (np.concatenate([getattr(p, name) for p in parts]) for name in ("i", "j", "likeness"))
        return cls(i, j, likeness)


def near_pairs(vectors: Vectors, at_least: float, nearest: int = NEAREST) -> Pairs:
    """Pairs of unit vectors (N, d) with a cosine similarity of ``at_least`` or more: the ``nearest`` of each row among
    those after it, and whatever else it takes to leave connected what all such pairs connect.
    """
    return _search(vectors, vectors, at_least, nearest, after=True)


def cross_pairs(rows: Vectors, columns: Vectors, at_least: float, nearest: int = NEAREST) -> Pairs:
    """The same for pairs of a row i of one (N, d) and a row j of another (M, d)."""
    return _search(rows, columns, at_least, nearest, after=False)


def _search(rows: Vectors, columns: Vectors, at_least: float, nearest: int, after: bool) -> Pairs:
    likeness, near = np.empty(_TILE * _TILE_COLUMNS, np.float32), np.empty(_TILE * _TILE_COLUMNS, bool)
    parts = []
    for start in range(0, len(rows), _TILE):
        stop = min(start + _TILE, len(rows))
        found = []
        for left in range(start if after else 0, len(columns), _TILE_COLUMNS):
            right = min(left + _TILE_COLUMNS, len(columns))
            shape, size = (stop - start, right - left), (stop - start) * (right - left)
            np.matmul(rows[start:stop], columns[left:right].T, out=likeness[:size].reshape(shape))
            hits = np.flatnonzero(np.greater_equal(likeness[:size], at_least, out=near[:size]))
            i, j = np.divmod(hits, right - left)
            i, j, value = i + start, j + left, likeness[hits]
            own = i < j if after else slice(None)
            found.append((i[own], j[own], value[own]))
        if found:
            i, j, value = (np.concatenate(part) for part in zip(*found, strict=True))
            chosen = _capped(i, j if after else j + len(rows), value, nearest)
            parts.append(Pairs(i[chosen].astype(np.int32), j[chosen].astype(np.int32), value[chosen]))
    return Pairs.joined(parts)


def _capped(
    i: npt.NDArray[np.int64], j: npt.NDArray[np.int64], likeness: Vectors, nearest: int
) -> npt.NDArray[np.int64]:
    """Which pairs are the nearest of each row, or one of the few more without which a connected group would be torn."""
    counts = np.bincount(i) if len(i) else np.empty(0, np.int64)
    if not len(i) or counts.max() <= nearest:
        return np.lexsort((j, i))
    order = np.lexsort((j, -likeness, i))
    rank = np.arange(len(i)) - np.repeat(np.cumsum(counts) - counts, counts)
    kept = order[rank < nearest]
    return np.concatenate([kept, _torn(i, j, kept)])


def _torn(i: npt.NDArray[np.int64], j: npt.NDArray[np.int64], kept: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Indices of pairs that join what the kept ones leave apart, though all pairs together connect it."""
    n = int(j.max()) + 1
    _, label = connected_components(_graph(i[kept], j[kept], n), directed=False)
    across = np.flatnonzero(label[i] != label[j])
    low, high = np.minimum(label[i[across]], label[j[across]]), np.maximum(label[i[across]], label[j[across]])
    _, first = np.unique(low.astype(np.int64) * n + high, return_index=True)
    return across[first]


def _graph(i: npt.NDArray[np.int64], j: npt.NDArray[np.int64], n: int) -> coo_array:
    return coo_array((np.ones(len(i), np.int8), (i, j)), shape=(n, n))
