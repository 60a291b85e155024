"""``ffavatar bench publish``: a JSON line a publication, of drawn people whose faces are all published."""

from __future__ import annotations

import json

from flows.bench import bench_publish as bench
from flows.cli import main


def test_a_line_for_each_publication(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setattr("os.fsync", lambda descriptor: None)
    monkeypatch.setattr(bench, "run_fresh", lambda function, *arguments: function(*arguments))
    main(["bench", "publish", "--people", "200", "--faces-per-person", "8"])
    first, other, more = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert [row["kind"] for row in (first, other, more)] == ["first", "other thresholds", "1 % more videos"]
    assert {row["bench"] for row in (first, other, more)} == {"publish"}
    assert [row["faces"] for row in (first, other, more)] == [1600, 1600, 1616]
    assert first["share_written"] >= 1 and 1000 < first["chosen"] < 1600, "every face passes but for some turned away"
    assert 0.5 * first["chosen"] < other["chosen"] < first["chosen"] and other["chosen"] <= more["chosen"]
    assert other["share_written"] < 0.2 and more["share_written"] < 0.25, "meshes are used again"
    assert first["files"] >= 10 and all(row["minutes"] >= 0 and row["peak_gb"] > 0 for row in (first, other, more))
    assert not list(tmp_path.iterdir()), "the drawn corpus is removed"
