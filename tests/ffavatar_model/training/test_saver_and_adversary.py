"""Checkpoints beside the step, which of them stay, and the adversarial term."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ffavatar_model.io.weights import read_header
from ffavatar_model.training import TrainConfig, Trainer
from ffavatar_model.training.adversary import Adversary
from ffavatar_model.training.checkpoint import list_checkpoints, load_state
from ffavatar_model.training.saver import Saver, copy_to_host


@pytest.fixture
def trainer(head, model_config) -> Trainer:
    config = TrainConfig(stage="pretrain", model=model_config, keep=1, keep_best=1)
    return Trainer(config, head, torch.device("cpu"), 0, 1)


def test_the_newest_and_the_best_stay(trainer: Trainer, tmp_path: Path) -> None:
    saver = Saver(tmp_path, trainer.config, trainer.model)
    for step, quality in ((1, 20.0), (2, 24.0), (3, None), (4, 21.0)):
        saver.start({"step": step}, None, quality)
    saver.wait()
    assert [p.name for p in list_checkpoints(tmp_path)] == ["step-00000002", "step-00000004"]
    assert read_header(tmp_path / "step-00000002")["quality"] == 24.0
    assert saver.finished() == tmp_path / "step-00000004" and saver.finished() is None


def test_what_is_written_is_the_state_of_when_it_began(trainer: Trainer, tmp_path: Path) -> None:
    parameter = next(trainer.model.parameters())
    before = parameter.detach().clone()
    saver = Saver(tmp_path, trainer.config, trainer.model)
    saver.start({"step": 1}, None, None)
    with torch.no_grad():
        parameter.add_(1.0)
    saver.wait()
    name = next(iter(dict(trainer.model.named_parameters())))
    assert torch.equal(load_state(tmp_path / "step-00000001")["weights"][name], before)
    nested = {"a": [torch.ones(2), (torch.zeros(1), 3)]}
    twin = copy_to_host(nested)
    twin["a"][0].add_(1)
    assert torch.equal(nested["a"][0], torch.ones(2)) and twin["a"][1][1] == 3


def test_what_goes_wrong_in_writing_is_raised(trainer: Trainer, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    saver = Saver(tmp_path / "file", trainer.config, trainer.model)
    saver.start({"step": 1}, None, None)
    with pytest.raises(OSError):
        saver.wait()
    saver.wait()


def test_a_critic_learns_to_tell_and_its_term_fades_in() -> None:
    torch.manual_seed(0)
    adversary = Adversary(Adversary.Config(weight=0.1, begin=0.5, lr=2e-3), torch.device("cpu"))
    assert [adversary.weight(p) for p in (0.0, 0.5, 0.55, 0.6, 1.0)] == pytest.approx([0, 0, 0.05, 0.1, 0.1])
    images = torch.rand(2, 2, 3, 32, 32)
    blurred = torch.nn.functional.avg_pool2d(images.flatten(0, 1), 5, 1, 2).unflatten(0, (2, 2)).requires_grad_()
    first = float(adversary.train_step(blurred, images))
    for _ in range(60):
        last = float(adversary.train_step(blurred, images))
    assert first > 1.5 and last < 0.5 * first
    adversary.term(blurred, 1.0).backward()
    assert blurred.grad is not None and blurred.grad.abs().sum() > 0
    twin = Adversary(adversary.config, torch.device("cpu"))
    twin.load_state_dict(adversary.state_dict())
    twin.critic.eval(), adversary.critic.eval()
    torch.testing.assert_close(twin.term(blurred, 1.0), adversary.term(blurred, 1.0))


def test_an_adversarial_run_goes_through_the_loop(people, head, model_config, few_to_many, tmp_path: Path) -> None:
    from ffavatar_model.data.dataset import IdentityDataset
    from ffavatar_model.training import train

    class Notes:
        def __init__(self) -> None:
            self.lines: list[dict[str, float]] = []

        def report(self, step, metrics, checkpoint) -> None:
            self.lines.append(dict(metrics))

        def image(self, step, name, rgb) -> None:
            pass

    config = TrainConfig(stage="pretrain", model=model_config, data=few_to_many, steps=4, log_every=1)
    config = replace(config, adversary=Adversary.Config(weight=0.1, begin=0.25))
    data = IdentityDataset(few_to_many, 32, "x", people.read, identity_faces=people.identity_faces, faces=people.faces)
    notes = Notes()
    result = train(config, head, data, None, notes, tmp_path)
    assert "critic" not in notes.lines[1] and notes.lines[-1]["critic"] > 0 and notes.lines[-1]["adversarial"] != 0
    assert set(load_state(result.checkpoint)["adversary"]) == {"critic", "optimizer"}
