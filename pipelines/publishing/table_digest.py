"""Digest of a table's rows, independent of files, chunks and library versions."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mfhq.schema import BLOB_REF

_ROWS = 65_536


def table_digest(table: pa.Table) -> str:
    """Return the sha256 of the rows in their order: names, types, nulls and values.

    An image contributes only its length and sha256. Its uri and offset are left out, since they depend on how the
    steps' output was divided into parts.

    Args:
        table: Rows; their order changes the digest.

    Returns:
        64 hexadecimal characters.
    """
    state = hashlib.sha256()
    for f in table.schema:
        state.update(f"{f.name}:{f.type};".encode())
    for start in range(0, table.num_rows, _ROWS):
        for column in table.slice(start, _ROWS).combine_chunks().columns:
            _update(state, pa.concat_arrays(column.chunks))
    return state.hexdigest()


def _update(state: Any, array: pa.Array) -> None:
    kind = array.type
    state.update(len(array).to_bytes(8, "little"))
    state.update(np.packbits(array.is_valid().to_numpy(zero_copy_only=False)).tobytes())
    if pa.types.is_fixed_size_list(kind) or pa.types.is_list(kind):
        lengths = pc.list_value_length(array).fill_null(0)
        state.update(lengths.to_numpy(zero_copy_only=False).astype("<i8").tobytes())
        _update(state, array.flatten())
    elif pa.types.is_struct(kind):
        for f, child in zip(kind, array.flatten(), strict=True):
            if kind != BLOB_REF or f.name in ("length", "sha256"):
                _update(state, child)
    elif pa.types.is_string(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        values = array.drop_null()
        state.update(pc.binary_length(values).to_numpy(zero_copy_only=False).astype("<i8").tobytes())
        for value in values.cast(pa.large_binary() if pa.types.is_large_binary(kind) else pa.binary()):
            state.update(value.as_buffer())
    elif pa.types.is_timestamp(kind):
        _update(state, array.cast(pa.int64()))
    else:
        values = array.drop_null().to_numpy(zero_copy_only=False)
        state.update(np.ascontiguousarray(values).tobytes())
