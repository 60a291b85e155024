"""Sample clips: the same bytes every time, whole or not there, and the truth beside them."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import av
import pytest

from pipelines.samples import make_samples, read_truth
from pipelines.samples.make import TRUTH_FILE

PERSON = ("photo_person_1",)
"""The astronaut."""


def _digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("samples") / "with a space"
    make_samples(folder, people=PERSON)
    return folder


def test_clips_are_what_the_truth_says(samples: Path) -> None:
    truth = read_truth(samples)
    assert [clip.file for clip in truth] == ["photo_person_1_a.mp4", "photo_person_1_b.mp4"]
    assert {path.name for path in samples.iterdir()} == {TRUTH_FILE, *(clip.file for clip in truth)}
    for clip in truth:
        with av.open(str(samples / clip.file)) as container:
            stream = container.streams.video[0]
            assert (stream.width, stream.height, float(stream.average_rate or 0)) == (clip.width, clip.height, clip.fps)
            assert sum(1 for _ in container.decode(stream)) == clip.n_frames
        assert 3 <= clip.n_frames / clip.fps <= 5
        assert hashlib.sha256((samples / clip.file).read_bytes()).hexdigest() == clip.sha256
    first, second = truth
    assert first.mirrored != second.mirrored and (first.width, first.height) != (second.width, second.height)


def test_a_second_call_makes_nothing(samples: Path) -> None:
    before = {path.name: path.stat().st_mtime_ns for path in samples.iterdir()}
    paths = make_samples(samples, people=PERSON)
    assert [path.name for path in paths] == ["photo_person_1_a.mp4", "photo_person_1_b.mp4"]
    assert {path.name: path.stat().st_mtime_ns for path in samples.iterdir()} == before


def test_lost_and_damaged_clips_come_back_the_same(samples: Path) -> None:
    before = _digests(samples)
    (samples / "photo_person_1_a.mp4").unlink()
    damaged = samples / "photo_person_1_b.mp4"
    damaged.write_bytes(damaged.read_bytes()[:5000])
    make_samples(samples, people=PERSON)
    assert _digests(samples) == before


def test_a_killed_call_leaves_no_half_clip(samples: Path, tmp_path: Path) -> None:
    code = f"from pipelines.samples import make_samples; make_samples({str(tmp_path)!r}, people={PERSON!r})"
    process = subprocess.Popen([sys.executable, "-c", code], start_new_session=True)
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob(".video-*/video.mp4")) and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert process.returncode == -signal.SIGKILL
    whole = _digests(samples)
    for clip in tmp_path.glob("*.mp4"):
        assert hashlib.sha256(clip.read_bytes()).hexdigest() == whole[clip.name]
    make_samples(tmp_path, people=PERSON)
    assert _digests(tmp_path) == whole


def test_clips_of_another_recipe_are_made_anew(samples: Path, tmp_path: Path) -> None:
    (tmp_path / TRUTH_FILE).write_text(json.dumps({"recipe": -1, "clips": [{"file": "photo_person_1_a.mp4"}]}))
    (tmp_path / "photo_person_1_a.mp4").write_bytes(b"old")
    make_samples(tmp_path, people=PERSON)
    assert _digests(tmp_path) == _digests(samples)


def test_unknown_people_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no sample clip shows nobody; there are photo_person_1"):
        make_samples(tmp_path, people=["nobody"])
    assert read_truth(tmp_path) == []
