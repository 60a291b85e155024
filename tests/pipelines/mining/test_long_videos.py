"""A video in work: its finished shots survive a kill, no network runs on them again, and the rows stay the same."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from infra.storage import open_store
from pipelines.engine.unfinished import UnfinishedItems
from pipelines.media.video_writer import write_video
from pipelines.mining.schemas import SEGMENT
from pipelines.mining.shot_tracks import Segment
from tests.pipelines.mining.test_steps import portrait
from tests.support.interrupted_tracks import track_one

FRAMES = 25
"""Frames of a shot."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with one video of five shots: a face, and the same one in other colours, in turn."""
    folder = tmp_path_factory.mktemp("long")
    shots = [[255 - frame if i % 2 else frame for frame in portrait(FRAMES, 10 * i)] for i in range(4)]
    write_video(folder / "long.mp4", [frame for shot in [*shots, portrait(FRAMES, 60)] for frame in shot], 25)
    return folder


@pytest.fixture
def followed(monkeypatch):
    """Numbers of the sampled frames that are searched for faces."""
    follow, frames = Segment.follow, []
    monkeypatch.setattr(Segment, "follow", lambda self, f, d: (frames.append(f.frame_index), follow(self, f, d))[1])
    return frames


def test_a_killed_attempt_is_gone_on_with_behind_its_last_part(folder, tmp_path, followed):
    calm = track_one(open_store(tmp_path / "calm"), folder, 60.0)
    everything = list(followed)
    assert calm["status"].to_pylist() == ["ok"] and len(calm["shots"][0]) == 5 and len(calm["tracks"][0]) >= 3

    store = open_store(tmp_path / "killed")
    dies_at = next(i for i, frame in enumerate(everything) if frame >= 3 * FRAMES) + 2  # in the fourth shot
    command = [sys.executable, "-m", "tests.support.interrupted_tracks", str(tmp_path / "killed"), str(folder)]
    died = subprocess.run([*command, str(dies_at)], cwd=Path(__file__).parents[3], capture_output=True, timeout=120)
    assert died.returncode == -9, died.stderr[-2000:]
    assert len(list(store.list("cache/unfinished"))) == 3, "one for each shot that ended"
    followed.clear()
    assert track_one(store, folder, 60.0).equals(calm)
    assert followed == [frame for frame in everything if frame >= 3 * FRAMES]
    assert not list(store.list("cache/unfinished")), "the item is committed"


@pytest.mark.parametrize("part_s", [1e-9, 0.2])
def test_the_rows_are_the_same_for_any_part(folder, tmp_path, part_s):
    whole = track_one(open_store(tmp_path / "whole"), folder, 60.0)
    assert track_one(open_store(tmp_path / "parts"), folder, part_s).equals(whole)


def test_a_failed_attempt_goes_on_and_says_its_share(folder, tmp_path, monkeypatch, followed):
    follow, shares, failures = Segment.follow, [], []

    def fail_once(self, frame, detector):
        if frame.frame_index >= 4 * FRAMES and not failures:
            failures.append(frame.frame_index)
            raise TimeoutError("too slow")
        follow(self, frame, detector)

    monkeypatch.setattr(Segment, "follow", fail_once)
    monkeypatch.setattr("pipelines.engine.unfinished.REPORT_SECONDS", 0.0)
    row = track_one(open_store(tmp_path), folder, 1e-9, lambda *said: shares.append(said))
    assert row["status"].to_pylist() == ["ok"]
    assert failures == [4 * FRAMES] and followed == sorted(set(followed)), "no shot twice"
    ends = [i for i, (_, _, share) in enumerate(shares) if share == 0.0 and i]
    assert {(name, key) for name, key, _ in shares} == {("tracks", row["video_id"][0].as_py())}
    first, second = ([share for *_, share in part] for part in (shares[: ends[0]], shares[ends[0] + 1 :]))
    assert first == sorted(first) and 0.75 < first[-1] < 0.9, "until it failed"
    assert second[:-1] == sorted(second[:-1]) and second[-2] > 0.9 and second[-1] == 0.0, (
        "and from the start, to its end"
    )


def test_damaged_and_missing_parts_are_made_anew(tmp_path):
    store = open_store(tmp_path)
    key = "ab" * 32
    items = UnfinishedItems(store, "tracks", "f")
    for number in range(3):
        rows = [{"video_id": key, "number": number, "frames": [number], "tracks": []}]
        items.save(key, pa.Table.from_pylist(rows, schema=SEGMENT))
    paths = sorted(store.list("cache/unfinished"))
    data = bytearray(store.read(paths[1]))
    data[len(data) // 2] ^= 1
    store.write(paths[1], bytes(data))
    again = UnfinishedItems(store, "tracks", "f")
    assert [part["number"].to_pylist() for part in again.read(key, SEGMENT)] == [[0]]
    assert sorted(store.list("cache/unfinished")) == paths[:1]
