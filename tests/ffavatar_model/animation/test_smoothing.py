"""The one-euro filter on signals whose right answer is known."""

from __future__ import annotations

import math

import pytest
import torch

from ffavatar_model.animation.smoothing import OneEuro, smooth_parameters
from ffavatar_model.networks.estimator import DrivingParameters

FPS = 30.0


def run(config: OneEuro.Config, values: torch.Tensor) -> torch.Tensor:
    """A signal (T,), one value a frame, through a new filter."""
    smooth = OneEuro(config)
    return torch.stack([smooth(value, i / FPS) for i, value in enumerate(values)])


def test_without_speed_it_is_a_first_order_low_pass():
    config = OneEuro.Config(min_cutoff_hz=2.0, beta=0.0)
    got = run(config, torch.cat((torch.zeros(1), torch.ones(20))))
    turn = 2 * math.pi * 2.0 / FPS
    expected = 1 - (1 - turn / (turn + 1)) ** torch.arange(0, 21)
    torch.testing.assert_close(got, expected.float(), atol=1e-5, rtol=0)


def test_it_steadies_a_still_head_and_keeps_up_with_a_moving_one():
    random = torch.Generator().manual_seed(0)
    noise = 0.02 * torch.randn(300, generator=random)
    still = run(OneEuro.Config(), noise)
    assert still[60:].std() < 0.55 * noise[60:].std()
    moving = torch.sin(2 * math.pi * 1.0 * torch.arange(300) / FPS)  # a full nod a second
    lag_of = {beta: (run(OneEuro.Config(beta=beta), moving) - moving)[60:].abs().max() for beta in (0.0, 4.0)}
    assert lag_of[4.0] < 0.5 * lag_of[0.0] and lag_of[4.0] < 0.25


def test_a_constant_stays_and_a_pause_begins_anew():
    smooth = OneEuro()
    for i in range(5):
        assert torch.equal(smooth(torch.full((3,), 0.7), i / FPS), torch.full((3,), 0.7))
    assert torch.equal(smooth(torch.zeros(3), 100.0), torch.zeros(3)), "after a pause the old value does not pull"
    assert torch.equal(smooth(torch.ones(3), 100.0), torch.zeros(3)), "equal times have one value"


def test_parameters_keep_their_shapes_and_places():
    g = torch.Generator().manual_seed(1)
    a, b = (DrivingParameters(*(torch.randn(1, 1, *s, generator=g) for s in ((7,), (5, 3), (9,)))) for _ in range(2))
    smooth = OneEuro(OneEuro.Config(min_cutoff_hz=3.0, beta=0.0))
    first = smooth_parameters(smooth, a, 0.0)
    second = smooth_parameters(smooth, b, 1 / FPS)
    turn = 2 * math.pi * 3.0 / FPS
    for before, now, start, end in zip(first, second, a, b, strict=True):
        assert torch.equal(before, start)
        torch.testing.assert_close(now, torch.lerp(start, end, turn / (turn + 1)))


@pytest.mark.parametrize(("name", "value"), [("min_cutoff_hz", 0.0), ("beta", -1.0), ("restart_s", 0.0)])
def test_settings_that_make_no_filter_are_named(name: str, value: float):
    with pytest.raises(ValueError, match=name):
        OneEuro.Config(**{name: value})
