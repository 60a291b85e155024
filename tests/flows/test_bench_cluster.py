"""``ffavatar bench cluster``: a JSON line a method and size, on drawn tracks or on a file of vectors."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from flows.cli import main
from pipelines.samples.track_embeddings import draw_tracks


def lines(capsys: pytest.CaptureFixture[str], *words: str) -> list[dict]:
    main(["bench", "cluster", *words])
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_figures_of_drawn_tracks_and_of_a_file(tmp_path: Path, monkeypatch, capsys):
    monkeypatch.setenv("FFAVATAR_HOME", str(tmp_path / "home"))
    drawn = lines(capsys, "--tracks", "500", "--tracks", "1000", "--width", "64", "--method", "ffavatar", "--new", "50")
    assert [(row["bench"], row.get("tracks")) for row in drawn] == [
        ("cluster", 500), ("cluster-new", 500), ("cluster", 1000), ("cluster-new", 1000), ("cluster-growth", None),
    ]  # fmt: skip
    for row in drawn[:4]:
        assert row["method"] == "ffavatar" and row["width"] == 64 and row["seconds"] > 0 and row["peak_gb"] > 0
        assert row["precision"] >= 0.995 and row["f1"] >= 0.99 and row["recall"] <= 1
    tracks = draw_tracks(400, 64, 9)
    np.savez(tmp_path / "mine.npz", vectors=tracks.vectors, person=tracks.person)
    given = lines(capsys, "--vectors", str(tmp_path / "mine.npz"), "--method", "sklearn-average", "--new", "0")
    assert [(row["method"], row["tracks"], row["threshold"]) for row in given] == [("sklearn-average", 400, 0.5)]
    assert given[0]["f1"] > 0.99
    np.save(tmp_path / "bare.npy", tracks.vectors)
    bare = lines(capsys, "--vectors", str(tmp_path / "bare.npy"), "--method", "ffavatar", "--new", "0")
    assert bare[0]["f1"] is None and bare[0]["tracks"] == 400
