"""Search for deleted data in every byte of a store: raw, and decoded where a file is Parquet."""

from __future__ import annotations

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq


def remnants(store, names, pieces):
    """Return the paths of files that hold one of the texts ``names`` or byte strings ``pieces``, or are named so."""
    wanted = [name.encode() for name in names] + list(pieces)
    assert wanted and all(len(piece) > 3 for piece in wanted)
    held = blocks_of(store)
    return [path for path, blocks in held.items() if any(piece in block for block in blocks for piece in wanted)]


def missing(store, names, pieces):
    """Return the names and pieces that no file holds."""
    everything = [block for blocks in blocks_of(store).values() for block in blocks]
    wanted = [name.encode() for name in names] + list(pieces)
    return [piece for piece in wanted if not any(piece in block for block in everything)]


def blocks_of(store):
    """Return path to the file's name, its bytes and, of Parquet, the schema and the bytes of every column decoded."""
    held = {}
    for path in store.list(""):
        data = store.read(path)
        held[path] = [path.encode(), data]
        if path.endswith(".parquet"):
            table = pq.read_table(io.BytesIO(data))
            decoded = (block for column in table.columns for block in leaves(column.combine_chunks()))
            held[path] += [repr(table.schema).encode(), *decoded]
    return held


def leaves(array):
    """Return the bytes of every leaf of an Arrow array."""
    if isinstance(array, pa.ChunkedArray):
        array = pa.concat_arrays(array.chunks)
    kind = array.type
    if pa.types.is_struct(kind):
        return [block for child in array.flatten() for block in leaves(child)]
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return leaves(array.flatten())
    values = array.drop_null()
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return ["\n".join(values.to_pylist()).encode()]
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return [b"\n".join(values.to_pylist())]
    if pa.types.is_floating(kind):
        return [np.ascontiguousarray(values.to_numpy(zero_copy_only=False)).tobytes()]
    return []
