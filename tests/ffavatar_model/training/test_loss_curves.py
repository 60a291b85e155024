"""Golden loss curves: twelve steps of each stage on made-up people. A change that moves them must say why.

Written anew with ``FFAVATAR_WRITE_GOLDEN=1 python -m pytest tests/ffavatar_model/training/test_loss_curves.py``.
"""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ffavatar_model.data.dataset import FewToManyDataset, IdentityDataset, MultiviewDataset
from ffavatar_model.training import TrainConfig, Trainer, recipe

GOLDEN = Path(__file__).parents[2] / "golden" / "loss_curves.json"
STEPS = 12


def curve(stage: str, people, head, model_config) -> list[float]:
    config = recipe(stage)
    config = replace(config, model=model_config, optimizer=replace(config.optimizer, warmup=2), steps=STEPS, batch=2)
    if stage == "personalize":
        config = replace(config, batch=1)
    trainer = Trainer(config, head, torch.device("cpu"), 0, 1)
    batches = trainer.batches(_data(stage, config, people))
    return [trainer.train_step(next(batches))["loss"] for _ in range(STEPS)]


def _data(stage: str, config: TrainConfig, people) -> FewToManyDataset:
    if stage == "multiview":
        tables = {"views": people.views, "cameras": people.cameras}
        return MultiviewDataset(config.data, 32, "digest", people.read, **tables)
    one = {sorted(set(people.identity_faces["identity_id"].to_pylist()))[0]} if stage == "personalize" else None
    tables = {"identity_faces": people.identity_faces, "faces": people.faces}
    return IdentityDataset(config.data, 32, "digest", people.read, identities=one, **tables)


@pytest.mark.parametrize("stage", ["pretrain", "multiview", "personalize"])
def test_the_loss_goes_as_it_went(stage: str, people, head, model_config) -> None:
    found = curve(stage, people, head, model_config)
    if os.environ.get("FFAVATAR_WRITE_GOLDEN"):
        kept = json.loads(GOLDEN.read_text()) if GOLDEN.is_file() else {}
        GOLDEN.parent.mkdir(exist_ok=True)
        GOLDEN.write_text(json.dumps(kept | {stage: [round(x, 5) for x in found]}, indent=1) + "\n")
    assert found == pytest.approx(json.loads(GOLDEN.read_text())[stage], rel=0.01)
