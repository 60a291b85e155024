"""Intervals resample people, not images."""

from __future__ import annotations

import numpy as np
import pytest

from ffavatar_model.evaluation import bootstrap, summarise


def test_the_interval_covers_the_mean_as_often_as_it_says() -> None:
    g = np.random.default_rng(0)
    inside = 0
    for trial in range(200):
        interval = bootstrap(g.normal(3.0, 1.0, 40).tolist(), n=400, seed=trial)
        inside += interval.low <= 3.0 <= interval.high
    assert 0.88 <= inside / 200 <= 0.99


def test_everybody_counts_once_however_many_images_there_are() -> None:
    rows = [{"person": "a", "method": "ours", "psnr": 10.0}] * 9 + [{"person": "b", "method": "ours", "psnr": 20.0}]
    rows += [{"person": "a", "method": "other", "psnr": float("nan")}]
    table = summarise(rows, ("method",), ("psnr",))
    assert table[0]["psnr"].value == 15.0 and table[0]["psnr"].n == 2
    assert "psnr" not in table[1], "nothing was measured there"
    with pytest.raises(ValueError, match="no finite value"):
        bootstrap([float("nan")])
