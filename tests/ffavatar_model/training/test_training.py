"""The loop: held-out loss falls, runs go on where they stopped, what breaks is named."""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from ffavatar_model.data.batch import RawBatch
from ffavatar_model.data.dataset import FewToManyDataset, IdentityDataset, MultiviewDataset
from ffavatar_model.head import HeadModel
from ffavatar_model.io.weights import load_model, load_weights, read_header, save_weights
from ffavatar_model.model import FFAvatar
from ffavatar_model.training import TrainConfig, Trainer, recipe, train
from ffavatar_model.training.checkpoint import STATE_FILE, list_checkpoints, load_state
from ffavatar_model.training.cuda_graphs import graph_key
from ffavatar_model.training.objective import Objective, Precomputed


@dataclass
class Notes:
    """A reporter that remembers."""

    metrics: dict[int, dict[str, float]] = field(default_factory=dict)
    images: list[NDArray[np.uint8]] = field(default_factory=list)
    checkpoints: list[Path] = field(default_factory=list)

    def report(self, step: int, metrics: Mapping[str, float], checkpoint: Path | None) -> None:
        self.metrics[step] = dict(metrics)
        if checkpoint is not None:
            assert (checkpoint / "model.safetensors").is_file() and (checkpoint / STATE_FILE).is_file()
            self.checkpoints.append(checkpoint)

    def image(self, step: int, name: str, rgb: NDArray[np.uint8]) -> None:
        self.images.append(rgb)


def small(stage: str, model: FFAvatar.Config, **changes: object) -> TrainConfig:
    config = recipe(stage)
    optimizer = replace(config.optimizer, warmup=2)
    return replace(config, model=model, optimizer=optimizer, **{"steps": 6, "batch": 2, **changes})


def dataset(people, kind: str, config: TrainConfig, ids: set[str] | None, held_out: bool = False) -> FewToManyDataset:
    data = config.data.held_out() if held_out else config.data
    if kind == "multiview":
        tables = {"views": people.views, "cameras": people.cameras}
        return MultiviewDataset(data, 32, "digest", people.read, identities=ids, **tables)
    tables = {"identity_faces": people.identity_faces, "faces": people.faces}
    return IdentityDataset(data, 32, "digest", people.read, identities=ids, **tables)


@pytest.fixture
def split(people) -> tuple[set[str], set[str]]:
    everyone = sorted(set(people.identity_faces["identity_id"].to_pylist()))
    return set(everyone[:-4]), set(everyone[-4:])


@pytest.mark.parametrize("stage", ["pretrain", "multiview"])
def test_held_out_people_look_better_after_a_short_training(stage, people, split, head, model_config, tmp_path):
    config = small(stage, model_config, steps=60, batch=4, validation_people=4)
    trained, held_out = split
    notes = Notes()
    result = train(
        config,
        head,
        dataset(people, stage, config, trained),
        dataset(people, stage, config, held_out, held_out=True),
        notes,
        tmp_path,
    )
    m = result.metrics
    assert m["end/loss"] < 0.8 * m["start/loss"], m
    assert m["end/psnr"] > m["start/psnr"] + 1, m
    assert result.step == 60 and notes.checkpoints == [result.checkpoint]
    assert len(notes.images) == 2 and notes.images[0].shape == (4 * 64, 5 * 32, 3)
    assert (notes.images[0] != notes.images[1]).any()
    assert m["seconds/step"] > 0.5 * sum(v for k, v in m.items() if k.startswith("seconds/"))


def test_views_of_one_timestep_come_to_agree(people, split, head, model, model_config, tmp_path):
    torch.nn.init.normal_(model.estimator.head.weight, std=0.5)
    begin, apart = tmp_path / "model.safetensors", {}
    save_weights(begin, model)
    for weight in (0.0, 20.0):
        config = small("multiview", model_config, steps=25)
        config = replace(config, objective=replace(config.objective, agreement=weight))
        data = dataset(people, "multiview", config, split[0])
        ended = train(config, head, data, None, Notes(), tmp_path / str(weight), init=begin)
        model = load_model(ended.checkpoint, head)
        measured = replace(config.objective, agreement=1.0)
        data = dataset(people, "multiview", config, split[1], held_out=True)
        _, terms, output = Objective(measured, model)(data.batch(range(4)), 1.0)
        apart[weight] = float(terms["agreement"])
        shared = output.parameters.expression
        assert (
            (shared[:, 0] - shared[:, 1]).abs().max()
            < 1e-6
            < (output.estimated_parameters.expression - shared).abs().max()
        )
    assert 0 < apart[20.0] < 0.5 * apart[0.0], apart


def test_personalizing_moves_the_person_alone_and_lowers_the_loss(people, split, head, model_config, tmp_path):
    config = small("personalize", model_config, steps=30, batch=1)
    config = replace(config, data=config.data.held_out())
    person = {sorted(split[1])[0]}
    before = Trainer(config, head, torch.device("cpu"), 0, 1).model.state_dict()
    data = dataset(people, "personalize", config, person)
    result = train(config, head, data, data, Notes(), tmp_path)
    assert result.metrics["end/photometric"] < 0.7 * result.metrics["start/photometric"]
    model = load_model(result.checkpoint, head)
    after = model.state_dict()
    moved = {name.split(".")[0] for name, value in after.items() if not torch.equal(value, before[name])}
    assert moved == {"personal", "estimator"}
    assert (after["personal.raw"] != 0).any()


def test_a_run_goes_on_exactly_where_it_stopped(people, split, head, model_config, tmp_path):
    config = small("pretrain", model_config, steps=6, checkpoint_every=3, ema=0.9)
    data, held = (dataset(people, "pretrain", config, ids) for ids in split)
    whole = train(config, head, data, held, Notes(), tmp_path / "whole")
    first = list_checkpoints(tmp_path / "whole")[0]
    assert first.name == "step-00000003"
    data = dataset(people, "pretrain", config, split[0])
    again = train(config, head, data, held, Notes(), tmp_path / "b", resume=first)
    before = {name: value for name, value in whole.metrics.items() if name.startswith("start/")}
    assert before and before == {name: value for name, value in again.metrics.items() if name.startswith("start/")}
    a, b = load_state(whole.checkpoint), load_state(again.checkpoint)
    assert a["step"] == b["step"] == 6
    for kind in ("weights", "averaged"):
        for name, value in a[kind].items():
            torch.testing.assert_close(b[kind][name], value, atol=1e-6, rtol=1e-5, msg=lambda m, n=name: f"{n}: {m}")
    with pytest.raises(ValueError, match="at its end already"):
        train(config, head, data, None, Notes(), tmp_path / "c", resume=again.checkpoint)


def test_accumulating_parts_equals_the_whole_batch(people, split, head, model_config, tmp_path):
    results = []
    for parts in (1, 2):
        config = small("pretrain", model_config, steps=2, accumulate=parts, log_every=1)
        notes = Notes()
        train(config, head, dataset(people, "pretrain", config, split[0]), None, notes, tmp_path / str(parts))
        results.append(notes.metrics[2]["loss"])
    assert results[0] == pytest.approx(results[1], rel=1e-3)


def test_shares_of_workers_make_up_the_batch(people, split, head, model_config):
    config = small("pretrain", model_config, batch=4)
    data = dataset(people, "pretrain", config, split[0])
    alone = Trainer(config, head, torch.device("cpu"), 0, 1)
    whole = next(alone.batches(data)).ids
    shares = []
    for rank in range(2):
        alone.rank, alone.world = rank, 2
        shares += next(alone.batches(data)).ids
    assert shares == whole
    with pytest.raises(ValueError, match="batch=3: a multiple of"):
        Trainer(replace(config, batch=3), head, torch.device("cpu"), 0, 2)


class Poisoned(IdentityDataset):
    """A landmark that is not a number comes third."""

    def __getitem__(self, cursors: Sequence[int]) -> RawBatch:
        raw = super().__getitem__(cursors)
        return replace(raw, landmarks=raw.landmarks * float("nan")) if 5 in cursors else raw


def test_a_loss_that_is_not_finite_stops_before_the_optimizer(people, split, head, model_config, tmp_path):
    config = small("pretrain", model_config)
    data = dataset(people, "pretrain", config, split[0])
    data.__class__ = Poisoned
    trainer = Trainer(config, head, torch.device("cpu"), 0, 1)
    with pytest.raises(FloatingPointError) as error:
        trainer.train(data, None, Notes(), tmp_path, None, None)
    assert "step 3" in str(error.value) and data.batch([5]).ids[0][0] in str(error.value)
    assert trainer.step == 2 and all(torch.isfinite(p).all() for p in trainer.model.parameters())
    assert list_checkpoints(tmp_path) == []


def test_a_checkpoint_of_another_shape_is_one_line_with_the_way_out(head, model_config, people, split, tmp_path):
    config = small("pretrain", model_config, steps=1)
    result = train(config, head, dataset(people, "pretrain", config, split[0]), None, Notes(), tmp_path)
    wider = replace(model_config, query_former=replace(model_config.query_former, width=64))
    with pytest.raises(ValueError) as error:
        load_weights(result.checkpoint, FFAvatar(wider, head))
    message = str(error.value)
    assert "query_former." in message and "(32" in message and "(64" in message and "--set model" in message
    assert "\n" not in message and str(result.checkpoint) in message
    header = read_header(result.checkpoint)
    assert header["stage"] == "pretrain" and header["head"] == "egg" and header["run"]["steps"] == 1
    other = replace_template(head)
    with pytest.raises(ValueError, match=r"made with head model 'egg'.*use the head model"):
        load_model(result.checkpoint, other)


def test_a_captured_step_is_not_that_of_another_kind_of_batch(people, split, model_config):
    """A step that was captured without padding looks at no mask: a padded batch of the same shapes needs its own."""
    batch = dataset(people, "identities", small("pretrain", model_config), split[0]).batch([0, 1])
    kinds = {
        graph_key(replace(batch, padded=padded, known=known), Precomputed(), faded)
        for padded in (False, True)
        for known in (False, True)
        for faded in (False, True)
    }
    assert len(kinds) == 8
    other = {
        graph_key(replace(batch, timestep=batch.timestep.int()), Precomputed(), True),
        graph_key(batch, Precomputed(features=torch.zeros(1)), True),
    }
    assert len(kinds | other) == 10
    assert graph_key(batch.clone(), Precomputed(), True) in kinds


def replace_template(head: HeadModel) -> HeadModel:
    return replace(head, template=head.template + 0.001)


def test_a_state_that_would_run_code_is_refused(tmp_path):
    class Trap:
        def __reduce__(self):
            return Path.touch, (tmp_path / "sprung",)

    for data in (pickle.dumps(Trap()), b"", b"PK\x03\x04 cut off"):
        (tmp_path / STATE_FILE).write_bytes(data)
        with pytest.raises(ValueError, match="not a readable state of training") as error:
            load_state(tmp_path)
        assert "\n" not in str(error.value)
    assert not (tmp_path / "sprung").exists()
    with pytest.raises(FileNotFoundError, match="no such checkpoint"):
        read_header(tmp_path / "nothing")


def test_a_time_limit_ends_the_schedule(people, split, head, model_config, tmp_path):
    config = small("pretrain", model_config, steps=100_000, max_seconds=1.0)
    notes = Notes()
    result = train(config, head, dataset(people, "pretrain", config, split[0]), None, notes, tmp_path)
    assert 1 <= result.step < 1000
    assert notes.metrics[result.step]["lr"] < config.optimizer.lr


def test_nothing_moves_is_refused_with_the_names(head, model_config):
    config = small("pretrain", model_config, moves=("encodr.",))
    with pytest.raises(ValueError, match=r"moves='encodr\.'.*encoder\."):
        Trainer(config, head, torch.device("cpu"), 0, 1)
