"""Pickles that refer to objects outside of the file; ``test_flame.py`` has those that ask for code."""

from __future__ import annotations

import io
import pickle
from typing import Any

import numpy as np
import pytest

from ffavatar_model.head.safe_pickle import RefusedPickle, read_arrays


class _Referring(pickle.Pickler):
    """Pickler that writes arrays as references to another file, as torch's does."""

    def persistent_id(self, value: Any) -> Any:
        return ("storage", "elsewhere") if isinstance(value, np.ndarray) else None


@pytest.mark.parametrize("protocol", range(1, 6))
def test_a_reference_to_another_file_is_refused(protocol: int) -> None:
    out = io.BytesIO()
    _Referring(out, protocol).dump({"v_template": np.zeros(3), "name": "x"})
    with pytest.raises(RefusedPickle, match="outside of the file"):
        read_arrays(out.getvalue())


def test_a_reference_by_name_is_refused() -> None:
    with pytest.raises(RefusedPickle, match="outside of the file"):
        read_arrays(b"(dS'v_template'\nP../../elsewhere\ns.")
