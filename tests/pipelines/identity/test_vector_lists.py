"""Vectors as columns of lists, and back."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from pipelines.identity import vector_lists
from pipelines.identity.vector_lists import lists_to_vectors, vectors_to_lists


@pytest.mark.parametrize("numbers", [1, 12, 1 << 30])
def test_vectors_come_back_from_however_many_pieces(monkeypatch, numbers):
    monkeypatch.setattr(vector_lists, "_MAX_VALUES", numbers)
    vectors = np.random.default_rng(0).normal(size=(7, 4)).astype(np.float32)
    column = vectors_to_lists(vectors)
    assert column.num_chunks == {1: 7, 12: 3}.get(numbers, 1) and column.type == pa.list_(pa.float32())
    table = pa.table({"vector": column})
    np.testing.assert_array_equal(lists_to_vectors(table.slice(2, 4), dtype=np.float32), vectors[2:6])
    assert lists_to_vectors(table).dtype == np.float64
    assert len(vectors_to_lists(vectors[:0])) == 0 and lists_to_vectors(table.slice(0, 0)).shape == (0, 0)


def test_vectors_of_two_widths_are_refused():
    with pytest.raises(ValueError, match="not of one width"):
        lists_to_vectors(pa.table({"vector": [[1.0, 2.0], [1.0]]}))
