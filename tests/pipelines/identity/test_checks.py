"""Embeddings that can't be clustered are named, with the reason."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines.identity.checks import EmbeddingError, check_vectors


def bad(row: int, value: float) -> np.ndarray:
    vectors = np.eye(4, dtype=np.float32)
    vectors[row] = value
    return vectors


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        (bad(2, np.nan), "embedding of c has NaN"),
        (bad(1, np.inf), "embedding of b has NaN"),
        (bad(0, 0), "embedding of a is a zero vector"),
        (bad(3, 7), "embedding of d is of length 14"),
        (np.eye(3, dtype=np.float32), r"shape \(3, 3\), where the model gives 4"),
        (np.ones(4), "shape"),
    ],
)
def test_bad_embeddings(vectors, message):
    with pytest.raises(EmbeddingError, match=message):
        check_vectors(vectors, 4, "corpus", ["a", "b", "c", "d"])


def test_rounded_unit_vectors_are_scaled_and_none_are_fine():
    made = check_vectors(np.eye(4) * 1.003, 4, "corpus")
    np.testing.assert_allclose(np.linalg.norm(made, axis=1), 1, atol=1e-6)
    assert made.dtype == np.float32 and check_vectors(np.empty((0, 4)), 4, "corpus").shape == (0, 4)
