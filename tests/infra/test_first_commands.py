"""Two first commands at once on a home where nothing is: both make the databases of MLflow and Prefect, and succeed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TRACKED = """
from infra.settings import load_settings, quiet_services
quiet_services(load_settings())
from infra.tracking import tracked_run
with tracked_run(load_settings(), "mine", "first", {"a": 1}) as run:
    print(run.run_id)
"""


def at_once(command: list[str], home: Path, n: int) -> list[str]:
    """The standard output of a command that runs ``n`` times at once; each must succeed."""
    paths = os.pathsep.join([str(ROOT), str(ROOT / "datasets")])
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT", "MLFLOW"))}
    environment |= {"FFAVATAR_HOME": str(home), "PYTHONPATH": paths}
    running = [
        subprocess.Popen(command, cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(n)
    ]
    ended = [(*process.communicate(timeout=300), process.returncode) for process in running]
    assert [status for _, _, status in ended] == [0] * n, "\n".join(err[-3000:] for _, err, _ in ended)
    return [out for out, _, _ in ended]


@pytest.mark.slow
def test_three_first_runs_at_once_are_all_in_mlflow(tmp_path: Path) -> None:
    ids = at_once([sys.executable, "-c", TRACKED], tmp_path / "home", 3)
    assert len({out.strip() for out in ids}) == 3
    assert (tmp_path / "home").stat().st_mode & 0o777 == 0o700


@pytest.mark.soak
def test_two_first_commands_at_once_both_publish(tmp_path: Path) -> None:
    """The command line as users call it: Ray, MLflow and Prefect's embedded server, each of two, from nothing."""
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "letter.mp4").write_text("a letter, and not a video\n" * 40)
    command = [sys.executable, "-m", "flows.cli", "mine", str(tmp_path / "videos"), "--corpus"]
    for attempt in range(2):
        for out in at_once([*command, str(tmp_path / f"corpus-{attempt}")], tmp_path / f"home-{attempt}", 2):
            assert "not_a_video" in out
