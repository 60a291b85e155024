"""Videos to decode, made once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.made_up_videos import make_videos


@pytest.fixture(scope="session")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder, with a space in its name, of the videos that ``make_videos`` names."""
    folder = tmp_path_factory.mktemp("made up")
    make_videos(folder)
    return folder
