"""The open head, built once into the machine's cache (FFAVATAR_CACHE)."""

from __future__ import annotations

import pytest

from ffavatar_model.head import HeadModel
from ffavatar_model.head.open_head import build_open_head
from pipelines.faces.weight_cache import cache_dir


@pytest.fixture(scope="session")
def open_head() -> HeadModel:
    return build_open_head(cache_dir())
