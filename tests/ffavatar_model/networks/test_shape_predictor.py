"""Heads of their own shape: zero at the start, followed by points, joints, normals and queries, and trained."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from ffavatar_model.data.dataset import IdentityDataset
from ffavatar_model.head import pose_head
from ffavatar_model.io.weights import check_and_load, load_weights, save_weights
from ffavatar_model.model import FFAvatar
from ffavatar_model.networks.lifting import point_normals
from ffavatar_model.training import Trainer, recipe
from ffavatar_model.training.objective import Objective


def test_a_model_with_shape_begins_as_one_without(shaped_head, model_config, tmp_path):
    torch.manual_seed(0)
    plain = FFAvatar(model_config, shaped_head)
    save_weights(tmp_path / "plain.safetensors", plain)
    model = FFAvatar(replace(model_config, shape=5), shaped_head)
    assert {n for n in model.state_dict() if not n.startswith("identity.")} == set(plain.state_dict())
    load_weights(tmp_path / "plain.safetensors", model)
    part = {name: value for name, value in model.state_dict().items() if name != "identity.head.weight"}
    with pytest.raises(ValueError, match=r"identity\.head\.weight .* is missing"):
        check_and_load(part, model, "a part")
    with pytest.raises(ValueError, match=r"identity\.head\.bias .* is not in the model"):
        check_and_load(model.state_dict(), plain, "a model with a shape")
    sources = torch.rand(2, 2, 3, 32, 32)
    with torch.no_grad():
        a, b = plain.reconstruct(sources), model.reconstruct(sources)
        assert a.shape is None and b.shape is not None and b.shape.shape == (2, 2) and not b.shape.any()
        neutral = plain.neutral_parameters(2)
        torch.testing.assert_close(plain.animate(a, neutral).means, model.animate(b, neutral).means)
        for name, value in a.tensors().items():
            torch.testing.assert_close(value, b.tensors()[name], rtol=1e-3, atol=1e-4)


def test_a_shaped_head_is_posed_as_the_head_model_says(shaped_head, model_config):
    rig = FFAvatar(replace(model_config, shape=2), shaped_head).rig
    shape = torch.tensor([[1.5, -0.5], [0.0, 2.0]])
    parameters = FFAvatar(model_config, shaped_head).neutral_parameters(2)
    rotations = 0.2 * torch.randn(2, 1, 5, 3, generator=torch.Generator().manual_seed(1))
    parameters = parameters._replace(rotations=rotations, expression=torch.full_like(parameters.expression, 0.7))
    means, _ = rig.pose(rig.mean_head(2, shape), parameters)
    expected = pose_head(shaped_head, shape, parameters.expression[:, 0], rotations[:, 0]).vertices
    torch.testing.assert_close(means[:, 0], expected, rtol=1e-4, atol=1e-5)
    for i, normals in enumerate(rig.shaped_normals(shape)):
        one = point_normals(rig.shaped_points(shape)[i], shaped_head.triangles)
        torch.testing.assert_close(normals, one, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(rig.shaped_normals(torch.zeros(1, 2))[0], rig.normals, rtol=1e-4, atol=1e-5)


def test_shape_is_trained_and_the_landmark_term_keeps_its_floor(shaped_head, model_config, people):
    objective = Objective.Config(landmark=10.0, landmark_floor=0.5, landmark_until=0.5, motion=5.0)
    config = replace(recipe("pretrain"), model=replace(model_config, shape=2), objective=objective, steps=4)
    tables = {"identity_faces": people.identity_faces, "faces": people.faces}
    data = IdentityDataset(config.data, 32, "d", people.read, **tables)
    trainer = Trainer(config, shaped_head, torch.device("cpu"), 0, 1)
    metrics = [trainer.train_step(data.batch([2 * i, 2 * i + 1])) for i in range(4)]
    assert all(step["landmark"] > 0 and "shape" in step for step in metrics)
    assert trainer.model.identity is not None and trainer.model.identity.head.weight.abs().sum() > 0


def test_a_precomputed_shape_is_the_predicted_one(shaped_head, model_config, people):
    """Personalization that trains no source network computes each shape once, and its loss is the same."""
    config = replace(recipe("personalize"), model=replace(model_config, shape=2))
    tables = {"identity_faces": people.identity_faces, "faces": people.faces}
    batch = IdentityDataset(config.data, 32, "d", people.read, **tables).batch([0])
    trainer = Trainer(config, shaped_head, torch.device("cpu"), 0, 1)
    assert trainer.model.identity is not None
    torch.nn.init.normal_(trainer.model.identity.head.weight, generator=torch.Generator().manual_seed(2))
    precomputed = trainer._precompute(batch)
    assert precomputed.shape is not None and precomputed.shape.abs().min() > 0
    with torch.no_grad():
        losses = [float(trainer.objective(batch, 0.0, given)[0]) for given in (precomputed, None)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    moves = (*config.moves, "identity.")
    trained = Trainer(replace(config, moves=moves), shaped_head, torch.device("cpu"), 0, 1)._precompute(batch)
    assert trained.features is None and trained.shape is None


def test_a_known_shape_is_used_and_teaches_the_predictor(shaped_head, model_config, people):
    model = FFAvatar(replace(model_config, shape=2), shaped_head)
    sources, known = torch.rand(1, 2, 3, 32, 32), torch.tensor([[1.0, -0.5]])
    with torch.no_grad():
        torch.testing.assert_close(model.reconstruct(sources, shape=known).shape, known)
    config = replace(recipe("pretrain"), model=replace(model_config, shape=2), objective=Objective.Config(), steps=4)
    tables = {"identity_faces": people.identity_faces, "faces": people.faces}
    batch = IdentityDataset(config.data, 32, "d", people.read, **tables).batch([0, 1])
    trainer = Trainer(config, shaped_head, torch.device("cpu"), 0, 1)
    known = torch.tensor([[1.0, -0.5, 3.0], [0.2, 0.4, 3.0]])  # a third coefficient, which the model does not use
    _, terms, output = trainer.objective(replace(batch, shape=known), 0.0)
    torch.testing.assert_close(output.avatar.shape, known[:, :2])
    assert float(terms["known_shape"]) == pytest.approx(0.05 * float(known[:, :2].square().mean())), (
        "predicts zeros yet"
    )
    assert "shape" not in terms and "known_shape" not in trainer.objective(batch, 0.0)[1]
    trainer.train_step(replace(batch, shape=known))
    assert trainer.model.identity.head.weight.grad.abs().max() > 0
    plain = Trainer(replace(config, model=model_config), shaped_head, torch.device("cpu"), 0, 1)
    assert plain.objective(replace(batch, shape=known), 0.0)[2].avatar.shape is None
