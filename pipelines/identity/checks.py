"""Embeddings that can't be clustered, each with its own line of text."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Vectors = npt.NDArray[np.float32]

_FAR_FROM_UNIT = 0.01


class EmbeddingError(ValueError):
    """Embeddings that are none, or do not belong together: one line that names the first one and the way out."""


def checked_vectors(vectors: npt.ArrayLike, width: int, what: str, names: npt.ArrayLike | None = None) -> Vectors:
    """(N, width) float32 unit vectors, contiguous; rows whose length is a little off one are scaled.

    ``names`` (N,) are what the rows are called in the message, by default their numbers.

    Raises:
        EmbeddingError: another width, NaN or infinity, a zero vector, or one far from unit length.
    """
    found = np.ascontiguousarray(vectors, np.float32)
    if found.ndim != 2 or found.shape[1] != width:
        raise EmbeddingError(
            f"{what}: embeddings of shape {found.shape}, where the model gives {width} numbers a track; "
            f"they come from another model: mine again with one pack"
        )
    length = np.sqrt(np.einsum("nd,nd->n", found, found, dtype=np.float64)) if len(found) else np.empty(0)
    odd = np.flatnonzero(~(np.abs(length - 1) <= _FAR_FROM_UNIT))  # NaN too
    if len(odd):
        first = int(odd[0])
        name = np.asarray(names)[first] if names is not None else first
        value = length[first]
        why = (
            "has NaN or infinity in it"
            if not np.isfinite(value)
            else "is a zero vector"
            if value == 0
            else f"is of length {value:.4g}"
        )
        raise EmbeddingError(
            f"{what}: the embedding of {name} {why}, and {len(odd) - 1} more are not unit vectors; "
            f"leave them out, or embed them again"
        )
    if len(found) and np.abs(length - 1).max() > 1e-4:
        found = (found / length[:, None]).astype(np.float32)
    return found
