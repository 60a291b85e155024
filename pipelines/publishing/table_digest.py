"""Digest of a table's rows, independent of their order, of files, chunks and library versions.

The digest is a multiset hash: the sum of the rows' sha256, as four numbers of 64 bits. So it is computed while rows
stream by, and the sums of a table's parts add up to that of the table.
"""

from __future__ import annotations

import hashlib
import itertools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from mfhq.schema import BLOB_REF

_BYTES = 16 << 20
"""Size of a batch of rows in memory, bytes."""

Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class RowSum:
    """Sum of the hashes of rows; sums of parts of a table add up."""

    rows: int = 0
    """Number of rows."""
    lanes: tuple[int, int, int, int] = (0, 0, 0, 0)
    """Sum of the rows' sha256, as four numbers modulo 2^64."""

    def __add__(self, other: RowSum) -> RowSum:
        a, b, c, d = ((x + y) % 2**64 for x, y in zip(self.lanes, other.lanes, strict=True))
        return RowSum(self.rows + other.rows, (a, b, c, d))

    def digest(self, schema: pa.Schema) -> str:
        """Return the sha256 of the names and types of the columns and of this sum, hexadecimal.

        Args:
            schema: Schema of the rows.
        """
        columns = "".join(f"{f.name}:{f.type};" for f in schema)
        return hashlib.sha256(f"{columns}{self.rows};{self.lanes}".encode()).hexdigest()


def sum_rows(table: pa.Table) -> RowSum:
    """Return the sum of the hashes of a table's rows.

    An image contributes only its length and sha256. Its uri and offset are left out, since they depend on how the
    steps' output was divided into parts.

    Args:
        table: Rows in any order.
    """
    total, step = RowSum(), max(1, int(_BYTES * table.num_rows / max(table.nbytes, 1)))
    for start in range(0, table.num_rows, step):
        pieces = [p for column in table.slice(start, step).columns for p in _encode(_as_array(column))]
        encoded = _join(pieces)
        view, ends = memoryview(encoded.buffers()[2] or b""), _offsets(encoded).tolist()
        hashes = b"".join([hashlib.sha256(view[a:b]).digest() for a, b in itertools.pairwise(ends)])
        a, b, c, d = np.frombuffer(hashes, "<u8").reshape(-1, 4).sum(axis=0, dtype=np.uint64).tolist()
        total += RowSum(len(encoded), (a, b, c, d))
    return total


def table_digest(table: pa.Table) -> str:
    """Return the sha256 of a table's rows: names, types, nulls and values, whatever their order.

    Args:
        table: Rows.

    Returns:
        64 hexadecimal characters.
    """
    return sum_rows(table).digest(table.schema)


def _as_array(column: pa.ChunkedArray) -> pa.Array:
    return pa.concat_arrays(column.chunks) if column.num_chunks != 1 else column.chunk(0)


def _encode(array: pa.Array) -> list[Bytes | pa.Array]:
    """Encode N values as pieces whose bytes, one after the other, tell each value from every other.

    Returns:
        (N, width) bytes, or an array of N binary values.
    """
    kind, valid = array.type, array.is_valid().to_numpy(zero_copy_only=False)
    if pa.types.is_struct(kind):
        children = zip(kind, array.flatten(), strict=True)
        kept = [child for f, child in children if kind != BLOB_REF or f.name in ("length", "sha256")]
        return [valid.astype(np.uint8)[:, None], *(piece for child in kept for piece in _encode(child))]
    if pa.types.is_fixed_size_list(kind) or pa.types.is_list(kind):
        lengths = pc.list_value_length(array).fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
        values = array.flatten()
        flags, *numbers = [p for p in _encode(values) if isinstance(p, np.ndarray)]
        inner = np.concatenate([flags, *numbers], axis=1) if values.null_count else numbers[0]
        flag = valid.astype(np.uint8)[:, None] * (2 if values.null_count else 1)
        return [flag, _number_bytes(lengths), _binary(inner.reshape(-1), lengths * inner.shape[1])]
    if pa.types.is_string(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        values = array.cast(pa.large_binary() if not pa.types.is_string(kind) else pa.large_string())
        values = values.cast(pa.large_binary()).fill_null(b"")
        lengths = pc.binary_length(values).to_numpy(zero_copy_only=False).astype(np.int64)
        return [valid.astype(np.uint8)[:, None], _number_bytes(lengths), values]
    if pa.types.is_timestamp(kind):
        return _encode(array.cast(pa.int64()))
    numbers = array.cast(pa.uint8()) if pa.types.is_boolean(kind) else array
    filled = numbers.fill_null(0) if numbers.null_count else numbers
    return [valid.view(np.uint8)[:, None], _number_bytes(filled.to_numpy(zero_copy_only=False))]


def _number_bytes(numbers: npt.NDArray[np.generic]) -> Bytes:
    little = np.ascontiguousarray(numbers, numbers.dtype.newbyteorder("<"))
    return little.view(np.uint8).reshape(len(numbers), numbers.dtype.itemsize)


def _binary(data: Bytes, lengths: npt.NDArray[np.int64]) -> pa.Array:
    ends = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    buffers = [None, pa.py_buffer(ends), pa.py_buffer(np.ascontiguousarray(data))]
    return pa.Array.from_buffers(pa.large_binary(), len(lengths), buffers)


def _offsets(array: pa.Array) -> npt.NDArray[np.int64]:
    return np.frombuffer(array.buffers()[1], np.int64)[array.offset : array.offset + len(array) + 1]


def _join(pieces: list[Bytes | pa.Array]) -> pa.Array:
    """Join the pieces of N rows into N binary values."""
    joined: list[pa.Array] = []
    fixed: list[Bytes] = []
    for piece in [*pieces, None]:
        if isinstance(piece, np.ndarray):
            fixed.append(piece)
            continue
        if fixed:
            block = np.concatenate(fixed, axis=1)
            joined.append(_binary(block.reshape(-1), np.full(len(block), block.shape[1], np.int64)))
            fixed = []
        if piece is not None:
            joined.append(piece)
    return pc.binary_join_element_wise(*joined, pa.scalar(b"", pa.large_binary())) if len(joined) > 1 else joined[0]
