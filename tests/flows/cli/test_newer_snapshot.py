"""Commands that change a corpus, or train on it, refuse one with a snapshot of a newer version at their start."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.cli import main
from infra.storage import open_store
from mfhq.manifest import FORMAT, Manifest
from mfhq.paths import snapshot_path

COMMANDS = {
    "mine": ("mine", "{given}/nowhere"),
    "publish": ("publish",),
    "publish where": ("publish", "--where", "no condition"),
    "cluster": ("cluster",),
    "convert": ("convert", "ava256", "{given}/nowhere"),
    "retry": ("retry",),
    "recrop": ("recrop", "--size", "64"),
    "train": ("train", "pretrain", "--init", "{given}/nowhere"),
    "takedown": ("takedown", "--video", "nobody", "--yes"),
}
"""Commands whose other words are wrong, too: the newer snapshot is what they say."""


@pytest.mark.parametrize("newest", [True, False], ids=["newest", "older"])
@pytest.mark.parametrize("name", COMMANDS)
def test_a_newer_snapshot_is_one_line_at_the_start(
    name: str, newest: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FFAVATAR_HOME", str(tmp_path / "home"))
    store = open_store(tmp_path / "corpus")
    newer = Manifest(1, "d" * 64, {}, 0, "2026-01-01", "", format=FORMAT + 1)
    store.write(snapshot_path(1), newer.to_json())
    if not newest:
        store.write(snapshot_path(2), Manifest(2, "d" * 64, {}, 0, "2026-01-01", "").to_json())
    before = {path: store.read(path) for path in store.list("")}
    words = [word.format(given=tmp_path) for word in COMMANDS[name]]
    with pytest.raises(SystemExit) as ended:
        main([*words, "--corpus", store.uri])
    said = capsys.readouterr().err.strip()
    assert ended.value.code == 2 and len(said.splitlines()) == 1
    assert f"v0001.json: was written by a newer version (format {FORMAT + 1}" in said and "install a newer" in said
    assert {path: store.read(path) for path in store.list("")} == before
