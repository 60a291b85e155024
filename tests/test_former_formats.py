"""Files that the project wrote in November 2026, before its modules were moved, are read and gone on with as they are.

``golden/format_1`` holds a corpus of one rendered video and one broken file (without its embeddings), a head, a
checkpoint of four steps on random weights, an avatar, and ``expected.json`` with what they gave when they were written.
"""

from __future__ import annotations

import json
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from ffavatar_model.camera import pose_to_camera, virtual_intrinsics
from ffavatar_model.config import from_dict
from ffavatar_model.data.dataset import IdentityDataset
from ffavatar_model.head import HeadModel, load_head
from ffavatar_model.io.avatar import load_avatar
from ffavatar_model.io.weights import load_model, read_header
from ffavatar_model.training import TrainConfig, train
from infra.storage import FolderStore, open_store
from mfhq.catalog import Catalog
from pipelines.conversion.ava256_config import Ava256Config
from pipelines.conversion.ava256_step import convert_step
from pipelines.conversion.nersemble.nersemble_config import NersembleConfig
from pipelines.conversion.nersemble.nersemble_step import nersemble_step
from pipelines.engine.commits import read_step
from pipelines.engine.sources import read_sources
from pipelines.engine.state import bind_steps, corpus_fingerprints, fingerprints, make_plan
from pipelines.mining.schemas import SOURCES
from pipelines.mining.steps import AFTER, mining_steps
from tests.ffavatar_model.conftest import make_people

GOLDEN = Path(__file__).parent / "golden" / "format_1"
EXPECTED: dict[str, Any] = json.loads((GOLDEN / "expected.json").read_text())


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    with zipfile.ZipFile(GOLDEN / "corpus.zip") as kept:
        kept.extractall(tmp_path / "corpus")
    opened = open_store(tmp_path / "corpus")
    assert isinstance(opened, FolderStore)
    return opened


@pytest.fixture
def head() -> HeadModel:
    return load_head(GOLDEN / "head.safetensors")


def test_a_corpus_gives_the_same_digest_and_the_same_answers(store: FolderStore) -> None:
    snapshot = Catalog(store).open()
    assert (snapshot.version, snapshot.digest) == (EXPECTED["version"], EXPECTED["snapshot_digest"])
    for name, question in EXPECTED["queries"].items():
        assert snapshot.query(question["sql"]).to_pylist() == question["rows"], name


def test_nothing_of_a_corpus_is_mined_again(store: FolderStore) -> None:
    steps = mining_steps()
    assert fingerprints(steps, AFTER) != EXPECTED["step_fingerprints"] == EXPECTED["fingerprints"]["mining"]
    bound = [b for b in bind_steps(steps, AFTER) if not b.location.private]
    plan = make_plan(bound, read_sources(store, SOURCES, "video_id"), store, max_attempts=3)
    assert plan.tasks == [] and {name: counts.before for name, counts in plan.finished.items()} == {
        "probe": 2,
        "tracks": 1,
        "scores": 1,
    }
    tracks = read_step(store, "tracks", corpus_fingerprints(store, steps, AFTER)["tracks"], with_blobs=True)
    assert tracks["tracks"][0].as_py()[0]["faces"][0]["crop"][:4] == b"RIFF", "the images are where the rows say"


def test_fingerprints_of_the_other_steps_are_the_same() -> None:
    steps = (
        convert_step(Ava256Config(), None),
        nersemble_step(NersembleConfig()),
    )
    found = {step.name: step.fingerprint() for step in steps}
    assert found == {name: EXPECTED["fingerprints"][name] for name in found}


def test_a_checkpoint_gives_the_same_images(head: HeadModel) -> None:
    expected = EXPECTED["model"]
    assert json.loads(json.dumps(read_header(GOLDEN / "checkpoint"))) == expected["header"]
    model = load_model(GOLDEN / "checkpoint", head).eval()
    sources = torch.rand(1, 2, 3, 32, 32, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        avatar, parameters = model.reconstruct(sources), model.estimate(sources)
        posed = model.animate(avatar, parameters)
        K = virtual_intrinsics(32).expand(1, 2, 3, 3)
        image = model.render(posed, pose_to_camera(parameters.pose, K, 32), K).rgb
    assert [float(image.mean()), float(image.std())] == pytest.approx(
        [expected["rgb_mean"], expected["rgb_std"]], rel=1e-4
    )
    assert posed.means.flatten()[:6].tolist() == pytest.approx(expected["means"], rel=1e-4, abs=1e-6)


def test_an_avatar_is_read_and_is_that_of_its_checkpoint(head: HeadModel) -> None:
    avatar, header = load_avatar(GOLDEN / "avatar.safetensors")
    assert (header.head, header.head_digest, header.consent) == (head.name, head.digest, "yes")
    found = {name: float(value.abs().mean()) for name, value in avatar.tensors().items()}
    assert found == pytest.approx(EXPECTED["model"]["avatar"], rel=1e-5)


class Notes:
    """Keeps the steps that the loop reports."""

    def __init__(self) -> None:
        self.steps: list[int] = []

    def report(self, step: int, metrics: Any, checkpoint: Path | None) -> None:
        self.steps.append(step)

    def image(self, step: int, name: str, rgb: Any) -> None:
        """The loop's images are not looked at."""


def test_training_goes_on_from_a_checkpoint(head: HeadModel, tmp_path: Path) -> None:
    config = replace(from_dict(TrainConfig, EXPECTED["model"]["header"]["run"]), steps=6)
    people, notes = make_people(head, 4, 4), Notes()
    faces = {"identity_faces": people.identity_faces, "faces": people.faces}
    data = IdentityDataset(config.data, 32, "digest", people.read, **faces)
    ended = train(config, head, data, None, notes, tmp_path, resume=GOLDEN / "checkpoint")
    assert ended.step == 6 and notes.steps == [6]
