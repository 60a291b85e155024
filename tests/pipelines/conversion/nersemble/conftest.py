"""A small NeRSemble data set from the studio, rendered once a run."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest

from pipelines.studio.captures.camera_rig import RigCapture
from pipelines.studio.captures.capture_studio import CaptureStudio

N_CAMERAS, N_FRAMES, WIDTH, SEED = 5, 2, 220, 0
PEOPLE = (19, 60)
"""60 is one of the benchmark's."""


class NersembleData(NamedTuple):
    """The folder, and what it was rendered from."""

    root: Path
    captures: dict[int, RigCapture]


@pytest.fixture(scope="session")
def nersemble_data(capture_studio: CaptureStudio, tmp_path_factory: pytest.TempPathFactory) -> NersembleData:
    from pipelines.studio.captures.nersemble_layout import STUDIO_SEQUENCES, plan_session, write_sessions

    root = tmp_path_factory.mktemp("nersemble")
    captures = {
        p: plan_session(capture_studio, p, N_CAMERAS, N_FRAMES, WIDTH, SEED, STUDIO_SEQUENCES[:1]) for p in PEOPLE
    }
    assert len(list(write_sessions(root, captures))) == len(PEOPLE)
    return NersembleData(root, captures)
