"""Checks of embeddings before they are clustered; each fault has its own message."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pipelines.identity.constraints import Vectors

_FAR_FROM_UNIT = 0.01


class EmbeddingError(ValueError):
    """Invalid or incompatible embeddings; the message is one line that names the first one and the remedy."""


def check_vectors(vectors: npt.ArrayLike, width: int, what: str, names: npt.ArrayLike | None = None) -> Vectors:
    """Check embeddings and return them as (N, width) contiguous float32 unit vectors.

    Rows whose length differs slightly from 1 are scaled.

    Args:
        vectors: (N, width) numbers.
        width: Dimensions of the model's embeddings.
        what: Name of the set of vectors, for messages.
        names: (N,) names of the rows, for messages; by default their numbers.

    Raises:
        EmbeddingError: The width differs, or a vector has NaN or infinity in it, is zero, or is far from unit length.
    """
    unit = np.ascontiguousarray(vectors, np.float32)
    if unit.ndim != 2 or unit.shape[1] != width:
        raise EmbeddingError(
            f"{what}: embeddings of shape {unit.shape}, where the model gives {width} numbers a track; "
            f"they come from another model: mine again with one pack"
        )
    length = np.sqrt(np.einsum("nd,nd->n", unit, unit, dtype=np.float64)) if len(unit) else np.empty(0)
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
    if len(unit) and np.abs(length - 1).max() > 1e-4:
        unit = (unit / length[:, None]).astype(np.float32)
    return unit
