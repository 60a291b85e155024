"""The command line's surface, what it imports, and how wrong calls end."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np
import pytest

from flows.cli import cli, main
from pipelines.media.image_codec import encode_png
from pipelines.media.video_writer import write_video

SURFACE = {
    "animate": {"avatar", "driver", "face", "checkpoint", "smooth", "pack", "out"},
    "bench animate": {"size", "head", "overrides"},
    "bench cluster": {"sizes", "widths", "methods", "seed", "vectors", "threshold", "new"},
    "bench convert": {"dataset", "size"},
    "bench engine": {"items"},
    "bench loader": {"corpora", "stage", "size", "counts", "consumes", "seconds", "overrides", "head"},
    "bench mine": {"videos", "decode_minutes", "plain_seconds"},
    "bench plan": {"rows", "known"},
    "bench personalize": {"size", "head", "overrides"},
    "bench publish": {"people", "faces_per_person"},
    "bench reconstruct": {"size", "head", "overrides"},
    "bench studio": {"assets", "renderers", "size", "people"},
    "bench render": {"size", "head", "overrides"},
    "bench train": {"size", "head", "overrides"},
    "calibrate": {"pairs", "pack", "people"},
    "cluster": {"corpus", "pack", "full"},
    "convert": {"dataset", "source", "corpus", "size", "every", "overrides"},
    "data-card": {"corpus", "snapshot", "croissant", "out"},
    "diff": {"before", "after", "corpus"},
    "demo": {"videos", "out", "seconds"},
    "doctor": set(),
    "sbom": {"file", "licences"},
    "evaluate": {
        "checkpoint",
        "corpus",
        "snapshot",
        "people",
        "lpips",
        "nersemble_benchmark",
        "head",
        "pack",
        "out",
    },
    "export": {"avatar", "out", "page", "driver", "y_up", "checkpoint", "pack"},
    "export-corpus": {"corpus", "snapshot", "form", "out", "meshes", "biometric", "unclear", "shard"},
    "mine": {"source", "corpus", "pack", "preset", "decoder", "decode_limit"},
    "overlap": {"source", "corpus", "pack"},
    "plan": {"source", "corpus", "pack", "workers"},
    "publish": {"corpus", "preset", "pack", "where"},
    "head": {"file", "teeth", "out"},
    "curriculum": {
        "corpus",
        "captures",
        "identity",
        "init",
        "size",
        "workers",
        "gain",
        "overrides",
        "head",
        "out",
        "max_failures",
        "timeout_s",
    },
    "reconstruct": {"images", "checkpoint", "face", "fast", "force", "pack", "out", "personalize"},
    "recrop": {"corpus", "size"},
    "replay": {"item", "step", "corpus", "pack"},
    "retry": {"corpus", "where", "preset", "pack"},
    "report": {"corpus", "snapshot", "out"},
    "review": {"corpus", "reviewer", "port", "each"},
    "sql": {"query", "corpus", "snapshot", "listed", "values", "form", "parquet", "biometric", "trusted"},
    "bench sql": {"people", "faces_per_person", "corpus", "s3"},
    "studio": {
        *("layout", "identities", "cameras", "moments", "seconds", "size", "seed", "out"),
        *("report", "people", "clips", "assets"),
    },
    "deploy": {"pool", "source", "corpus"},
    "takedown": {"corpus", "videos", "sources", "identities", "photographs", "pack", "yes"},
    "train": {
        "stage",
        "corpus",
        "init",
        "identity",
        "workers",
        "overrides",
        "out",
        "head",
        "resume",
        "max_failures",
        "timeout_s",
    },
    "verify": {"corpus", "deep"},
    "view": {"avatar", "driver", "smooth", "checkpoint", "pack", "port"},
}

BLOCKER = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"ray", "prefect", "mlflow", "duckdb"}:
            raise ImportError(f"{name} is blocked")
sys.meta_path.insert(0, Blocked())
from flows.cli import main
main(sys.argv[1:])
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FFAVATAR_HOME", str(tmp_path / "home"))
    return tmp_path


def run(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, list[str]]:
    """Exit status and the lines on standard error."""
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    return int(ended.value.code or 0), capsys.readouterr().err.strip().splitlines()


def without_the_four(*words: object, before: str = "") -> subprocess.CompletedProcess[str]:
    """The command in a process that cannot import Ray, Prefect, MLflow or DuckDB; ``before`` is run there first."""
    command = [sys.executable, "-c", BLOCKER.replace("main(", f"{before}\nmain("), *(str(word) for word in words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


def commands(group: click.Group, prefix: str = "") -> Iterator[tuple[str, click.Command]]:
    """Every command that does something, by its words; those of a group follow the group's name."""
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, f"{prefix}{name} ")
        else:
            yield prefix + name, command


def test_surface_is_frozen() -> None:
    assert {name: {p.name for p in command.params} for name, command in commands(cli)} == SURFACE


def test_every_command_says_what_it_does() -> None:
    for name, command in commands(cli):
        assert command.help, name


@pytest.mark.parametrize(
    ("words", "named", "way_out"),
    [
        (("mine", "{tmp}/nowhere", "--corpus", "{tmp}/corpus"), "nowhere", "folder"),
        (("mine", "{tmp}/empty", "--corpus", "{tmp}/corpus"), "empty", ".mp4"),
        (("mine", "{tmp}/videos", "--corpus", "gopher://x"), "gopher", "s3://"),
        (("mine", "{tmp}/videos", "--corpus", "{tmp}/corpus", "--preset", "best"), "best", "mfhq"),
        (("sql", "SELECT 1", "--corpus", "{tmp}/corpus"), "corpus", "ffavatar mine"),
        (("demo", "--videos", "{tmp}/nowhere"), "nowhere", "folder"),
        (("train", "personalize", "--corpus", "{tmp}/corpus"), "--identity", "ffavatar sql"),
        (("train", "pretrain", "--corpus", "{tmp}/corpus"), "corpus", "ffavatar mine"),
        (("train", "pretrain", "--corpus", "{tmp}/c", "--set", "objective.lpips=1"), "objective.lpips=1", "lpips_file"),
        (("export", "{tmp}/none.safetensors", "-o", "{tmp}/x.ply"), "none.safetensors", "ffavatar reconstruct"),
        (("export", "{tmp}/photo.png", "-o", "{tmp}/x.txt"), "x.txt", ".ply"),
        (("reconstruct", "{tmp}/photo.png", "--checkpoint", "{tmp}/none", "-o", "{tmp}/a"), "none", "safetensors"),
        (("reconstruct", "{tmp}/p.png", "--checkpoint", "{tmp}/photo.png", "-o", "{tmp}/a"), "photo.png", "checkpoint"),
        (("studio", "--layout", "mfhq", "--identities", "0", "-o", "{tmp}/x"), "identities", "x>=1"),
        (("studio", "--identities", "1", "-o", "{tmp}/x"), "--layout", "--report DIR"),
        (("paint",), "paint", "No such command"),
    ],
)
def test_a_wrong_call_is_one_line_and_status_2(
    words: tuple[str, ...], named: str, way_out: str, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (home / "empty").mkdir()
    (home / "photo.png").write_bytes(encode_png(np.zeros((64, 64, 3), np.uint8)))
    write_video(home / "videos" / "grey.mp4", [np.full((64, 64, 3), 99, np.uint8)] * 5, 25)
    before = {path for path in home.rglob("*") if "home" not in path.parts[len(home.parts) :]}
    status, lines = run(capsys, *(word.format(tmp=home) for word in words))
    assert status == 2, lines
    assert len(lines) == 1 and named in lines[0] and way_out in lines[0], lines
    after = {path for path in home.rglob("*") if "home" not in path.parts[len(home.parts) :]}
    assert after == before, "nothing may be left that a reader would take for whole"


def test_commands_without_the_four_run(home: Path) -> None:
    """``--help`` and ``bench`` need none of Ray, Prefect, MLflow and DuckDB."""
    assert without_the_four("--help").returncode == 0
    short = "import flows.bench.model_fixture as fixture; fixture.SECONDS = 0.1"
    done = without_the_four("bench", "reconstruct", before=short)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count('"photos"') == 3
