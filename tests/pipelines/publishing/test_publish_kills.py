"""A publication that is killed leaves no half snapshot, and the next one gives what it would have given."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from infra.storage import open_store
from mfhq.catalog import Catalog
from mfhq.manifest import read_manifest
from pipelines.engine.state import fingerprints
from pipelines.engine.verification import verify_corpus
from pipelines.publishing.publish_presets import SMALL
from pipelines.publishing.publish_snapshot import publish_snapshot
from tests.support.mined_tables import mined_tables

ROOT = Path(__file__).parents[3]


def publish_and_die(corpus: Path, number: int, when: str = "before") -> subprocess.CompletedProcess[str]:
    """Publish in a process that ends at a write; 0 for a publication that goes through."""
    temporary = corpus.parent / f"tmp-{corpus.name}"
    temporary.mkdir(exist_ok=True)
    path = os.pathsep.join([str(ROOT), str(ROOT / "datasets")])
    command = [sys.executable, "-m", "tests.support.killed_publication", str(corpus), str(number), when]
    return subprocess.run(
        command,
        env={**os.environ, "PYTHONPATH": path, "TMPDIR": str(temporary)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def check_kills(mined_folder: Path, tmp_path: Path, toy, places, seed: int) -> None:
    """Kill publications in one corpus, at places (0 to 1) among the writes, each time where the last one got to."""
    whole = Path(shutil.copytree(mined_folder, tmp_path / "whole"))
    undisturbed = publish_and_die(whole, 0)
    assert undisturbed.returncode == 0, undisturbed.stderr
    n_writes, store = int(undisturbed.stdout.split()[-1]), open_store(whole)
    wanted = read_manifest(store, 1)
    rng = random.Random(seed)
    for place in places:
        corpus = Path(shutil.copytree(mined_folder, tmp_path / f"killed-{place}"))
        number = 1 + int(place * (n_writes - 1))
        killed = publish_and_die(corpus, number, rng.choice(["before", "after"]) if place < 1 else "before")
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        left = open_store(corpus)
        assert not Catalog(left).versions() and not verify_corpus(left, deep=True), "no snapshot, or a whole one"
        assert not [file for file in (tmp_path / f"tmp-{corpus.name}").rglob("*") if file.is_file()]
        prints = fingerprints(toy.toy_steps(), toy.AFTER)
        cut = mined_tables(left, prints, SMALL)
        again = publish_snapshot(left, prints, toy.assign(cut), SMALL, track_embeddings=toy.means(cut))
        assert (again.digest, again.version) == (wanted.digest, "v0001")
        assert read_manifest(left, 1).tables == wanted.tables, "file by file"
        kept = ({path for path in own.list("") if not path.startswith("cards/")} for own in (left, store))
        assert next(kept) == next(kept), "nothing is left over; cards say when they were written"


def test_a_killed_publication_is_gone_on_with(mined_folder, tmp_path, toy):
    check_kills(mined_folder, tmp_path, toy, [0.3, 1], seed=5)


@pytest.mark.soak
def test_publications_killed_at_twelve_places_are_gone_on_with(mined_folder, tmp_path, toy):
    rng = random.Random(11)
    check_kills(mined_folder, tmp_path, toy, sorted({round(rng.random(), 3) for _ in range(12)}), seed=12)
