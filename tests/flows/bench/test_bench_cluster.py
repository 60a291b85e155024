"""``ffavatar bench cluster``: a JSON line a method and size; drawn tracks, a file of vectors, and a corpus of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from flows.bench import bench_cluster as bench
from flows.cli import main
from pipelines.samples.synthetic_tracks import draw_tracks


def lines(capsys: pytest.CaptureFixture[str], *words: str) -> list[dict]:
    main(["bench", "cluster", *words])
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_figures_of_drawn_tracks_and_of_a_file(tmp_path: Path, monkeypatch, capsys):
    monkeypatch.setenv("FFAVATAR_HOME", str(tmp_path / "home"))
    apart = lines(capsys, "--tracks", "300", "--width", "64", "--method", "ffavatar", "--new", "0")
    assert len(apart) == 1 and 0 < apart[0]["peak_gb"] < 1, "in a process of its own"
    monkeypatch.setattr(bench, "_run_in_process", lambda measure, *arguments: measure(*arguments))
    drawn = lines(capsys, "--tracks", "500", "--tracks", "1000", "--width", "64", "--method", "ffavatar", "--new", "0")
    assert [(row["bench"], row.get("tracks")) for row in drawn] == [
        ("cluster", 500),
        ("cluster", 1000),
        ("cluster-growth", None),
    ]
    for row in drawn[:2]:
        assert row["method"] == "ffavatar" and row["width"] == 64 and row["seconds"] > 0 and row["peak_gb"] > 0
        assert row["precision"] >= 0.995 and row["f1"] >= 0.99 and row["recall"] <= 1
    tracks = draw_tracks(400, 64, 9)
    columns = {name: getattr(tracks, name) for name in ("vectors", "person", "video", "start", "end")}
    np.savez(tmp_path / "mine.npz", **columns)
    given = lines(capsys, "--vectors", str(tmp_path / "mine.npz"), "--method", "sklearn-average", "--new", "40")
    assert [(row["bench"], row["tracks"], row["threshold"]) for row in given] == [
        ("cluster", 400, 0.5),
        ("cluster-new", 400, 0.5),
    ]
    assert given[0]["f1"] > 0.99 and given[1]["f1"] > 0.99 and given[1]["f1_before"] > 0.99
    assert (given[1]["new"], given[1]["joined"]) == (40, 0), "so few are all clustered anew"
    assert given[1]["seconds"] > 0 and given[1]["seconds_before"] > 0
    np.save(tmp_path / "bare.npy", tracks.vectors)
    bare = lines(capsys, "--vectors", str(tmp_path / "bare.npy"), "--method", "ffavatar", "--new", "0")
    assert bare[0]["f1"] is None and bare[0]["tracks"] == 400
