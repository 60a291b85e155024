"""The studio's head, built once into the machine's cache (FFAVATAR_CACHE)."""

from __future__ import annotations

import pytest

from pipelines.faces.cache import cache_dir
from pipelines.studio.studio_head import StudioHead, load_studio_head


@pytest.fixture(scope="session")
def studio_head() -> StudioHead:
    return load_studio_head(cache_dir())
