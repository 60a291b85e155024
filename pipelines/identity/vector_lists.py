"""Embedding vectors as an Arrow column of lists, and back as a matrix."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

_MAX_VALUES = 1 << 30
"""Upper bound on the values of one chunk; an Arrow list array holds at most 2³¹ - 1."""


def lists_to_vectors(embeddings: pa.Table, column: str = "vector", dtype: npt.DTypeLike = np.float64) -> np.ndarray:
    """Return the vectors of a table as a matrix.

    Args:
        embeddings: N rows; each value of ``column`` is a list of D numbers.
        column: The name of the column.
        dtype: Data type of the result.

    Returns:
        (N, D); (0, 0) for an empty table.

    Raises:
        ValueError: The vectors are of different lengths.
    """
    if not embeddings.num_rows:
        return np.zeros((0, 0), dtype)
    flat = np.concatenate([chunk.flatten().to_numpy(zero_copy_only=False) for chunk in embeddings[column].chunks])
    if len(flat) % embeddings.num_rows:
        raise ValueError(
            f"{embeddings.num_rows} embeddings are not of one width ({len(flat)} values); mine with one model"
        )
    return flat.reshape(embeddings.num_rows, -1).astype(dtype, copy=False)


def vectors_to_lists(vectors: npt.NDArray[np.float32]) -> pa.ChunkedArray:
    """Return vectors (N, D) as a column of N lists of D float32, in chunks of at most ``_MAX_VALUES`` values."""
    rows, width = max(_MAX_VALUES // max(vectors.shape[1], 1), 1), vectors.shape[1]
    chunks = []
    for start in range(0, len(vectors), rows):
        chunk = np.ascontiguousarray(vectors[start : start + rows], np.float32)
        offsets = pa.array(np.arange(len(chunk) + 1, dtype=np.int32) * width)
        chunks.append(pa.ListArray.from_arrays(offsets, pa.array(chunk.ravel())))
    return pa.chunked_array(chunks, pa.list_(pa.float32()))
