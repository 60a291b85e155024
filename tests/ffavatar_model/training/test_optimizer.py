"""Learning rates: constant until the cosine begins, and a rate of its own for the shape predictor."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ffavatar_model.model import FFAvatar
from ffavatar_model.training.config import Optimizer
from ffavatar_model.training.optimizer import build_optimizer, set_learning_rate


def test_a_rate_is_constant_until_its_cosine_begins(model: FFAvatar) -> None:
    config = Optimizer(lr=1e-3, warmup=10, final=0.1, decay_from=0.6)
    optimizer = build_optimizer(config, model)
    rates = [set_learning_rate(optimizer, config, 100, progress) for progress in (0, 0.3, 0.6, 0.8, 1.0)]
    assert rates == pytest.approx([1e-3, 1e-3, 1e-3, 0.55e-3, 0.1e-3])
    assert set_learning_rate(optimizer, config, 4, 0.0) == pytest.approx(0.5e-3)  # the warm-up is as ever
    old = replace(config, decay_from=0.0)
    assert set_learning_rate(optimizer, old, 100, 0.5) == pytest.approx(0.55e-3)


def test_a_link_of_a_chain_keeps_its_rate_to_the_end(model: FFAvatar) -> None:
    config = Optimizer(lr=1e-3, warmup=0, final=1.0)
    optimizer = build_optimizer(config, model)
    assert {set_learning_rate(optimizer, config, 9, progress) for progress in (0.0, 0.5, 1.0)} == {1e-3}


def test_the_shape_predictor_has_a_rate_of_its_own(shaped_head, model_config) -> None:
    model = FFAvatar(replace(model_config, shape=2), shaped_head)
    own = {id(p) for name, p in model.named_parameters() if name.startswith("identity.")}
    groups = build_optimizer(Optimizer(lr=1e-3, shape_lr=10.0), model).param_groups
    peaks = {id(p): group["peak"] for group in groups for p in group["params"]}
    assert len(peaks) == len(list(model.parameters()))
    assert {peaks[p] for p in own} == {1e-2}
    plain = build_optimizer(Optimizer(lr=1e-3), model).param_groups
    assert len(groups) == len(plain) + 1 and all(group["peak"] != 1e-2 for group in plain)
