"""Bars stand where their counts say, and numbers are written as a person would."""

from __future__ import annotations

import math

import pytest

from pipelines.report import formatting
from pipelines.report.charts import histogram


def test_bars_are_in_proportion_and_stack() -> None:
    rows = [{"low": 40.0, "used": 3, "unused": 1}, {"low": 0.0, "used": 2, "unused": 0}]
    figure = histogram("Width", "px", rows, 20)
    assert figure.total == 6 and len(figure.bars) == 2
    first, last = figure.bars
    assert last.used_height == pytest.approx(1.5 * first.used_height, abs=0.02)
    assert last.unused_y + last.unused_height == pytest.approx(last.used_y, abs=0.02)
    assert last.used_y + last.used_height == pytest.approx(figure.base, abs=0.02)
    assert last.x - first.x == pytest.approx(2 * (first.width + 1), abs=0.1), "the empty bin between keeps its place"
    assert last.x + last.width <= figure.right
    assert last.label == "40 to 60 px: 3 used, 1 not"
    assert [tick.text for tick in figure.x_ticks] == ["0", "20", "40", "60"]


def test_negative_bins_and_many_of_them_get_round_ticks() -> None:
    rows = [{"low": float(low), "used": 1, "unused": 0} for low in range(-90, 90, 10)]
    figure = histogram("Yaw", "degrees", rows, 10)
    assert [tick.text for tick in figure.x_ticks] == ["-80", "-40", "0", "40", "80"]


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (formatting.count(1234567), "1\u202f234\u202f567"),
        (formatting.count(None), "–"),
        (formatting.number(0.5), "0.5"),
        (formatting.number(-0.001), "0"),
        (formatting.number(23.976), "23.98"),
        (formatting.number(1234.5), "1\u202f234"),
        (formatting.number(math.nan), "–"),
        (formatting.percent(0.1234), "12.3 %"),
        (formatting.width(7.0), "100.00"),
        (formatting.width(None), "0.00"),
        (formatting.seconds(0.0123), "12.3 ms"),
        (formatting.seconds(119), "119 s"),
        (formatting.seconds(600), "10 min"),
        (formatting.seconds(36000), "10 h"),
        (formatting.size(999), "999 B"),
        (formatting.size(12_340_000), "12.3 MB"),
        (formatting.meaning("no_index"), "the container lacks its index: cut off while it was written or copied"),
        (formatting.meaning("ValueError"), "a step raised this error; attempts.error has its traceback"),
        (formatting.basename("s3://bucket/a b/c.mp4"), "c.mp4"),
    ],
)
def test_numbers_are_written_for_reading(written: str, expected: str) -> None:
    assert written == expected
