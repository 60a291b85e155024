"""The studio experiments at the smallest size, and the table that puts them side by side."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from flows.experiments.compare import main as compare
from flows.experiments.rendering import RenderOrder, observe_shape
from flows.experiments.train_on_studio import interleave_orders
from flows.experiments.train_on_studio import main as studio
from pipelines.studio.captures.capture_studio import CaptureStudio
from pipelines.studio.people.figure import Pose


def interval(value: float) -> dict[str, float]:
    return {"value": value, "low": value - 1, "high": value + 1, "n": 3}


def test_reports_stand_side_by_side(tmp_path: Path) -> None:
    full = {
        "self": [
            {"method": m, "views": v, "psnr": interval(10 * v + i)}
            for i, m in enumerate(("ours", "nearest"))
            for v in (1, 2, 4)
        ],
        "around": [{"method": "ours", "views": 4, "psnr": interval(14.5)}],
        "around_by_azimuth": [{"views": v, "sector": "back, over 135°", "psnr": interval(5 + v)} for v in (1, 4)],
        "estimator": {"rotation_deg": interval(3.9)},
    }
    reports = {"full": {"steps": 1885, "after": full}, "stage 1": {"steps": 9, "after": {"self": full["self"]}}}
    for name, report in reports.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "metrics.json").write_text(json.dumps(report))
    named = [f"{name}={tmp_path / name}" for name in reports]
    lines = CliRunner().invoke(compare, named).output.splitlines()
    assert lines == [
        "| | full | stage 1 |",
        "|---|---|---|",
        "| steps | 1885 | 9 |",
        "| portraits, 1 view (dB) | 10.00 (9.00 to 11.00) | 10.00 (9.00 to 11.00) |",
        "| portraits, 4 views (dB) | 40.00 (39.00 to 41.00) | 40.00 (39.00 to 41.00) |",
        "| all round, 4 views (dB) | 14.50 (13.50 to 15.50) |  |",
        "| back, over 135° (dB) | 9.00 (8.00 to 10.00) |  |",
        "| head rotation (°) | 3.90 (2.90 to 4.90) |  |",
    ]
    wrong = CliRunner().invoke(compare, [f"full={tmp_path}"])
    assert wrong.exit_code == 2 and "metrics.json" in wrong.output


def test_orders_of_two_kinds_are_rendered_in_turn() -> None:
    ours = [RenderOrder(f"o{i}", "around", 1, 1, 8) for i in range(4)]
    others = [RenderOrder(f"p{i}", "portraits", 1, 1, 8) for i in range(2)]
    names = [order.person for order in interleave_orders(ours, others)]
    assert names == ["o0", "p0", "o1", "o2", "p1", "o3"]
    assert interleave_orders(ours, []) == ours


def test_a_shape_is_observed_as_a_fit_sees_it(capture_studio: CaptureStudio) -> None:
    """It is nearer to the truth than the mean head, less sure than the truth, and drawn anew by the generator alone."""
    errors, sizes = [], []
    for i in range(8):
        true = capture_studio.source.person(f"observed-{i}").pose(Pose()).shape
        assert true is not None
        seen = observe_shape(capture_studio, true, np.random.default_rng(i))
        assert np.array_equal(seen, observe_shape(capture_studio, true, np.random.default_rng(i)))
        errors.append(np.linalg.norm(seen - true) / np.linalg.norm(true))
        sizes.append(np.linalg.norm(seen) / np.linalg.norm(true))
    assert max(errors) < 1 and 0.3 < np.mean(errors) < 0.8 and np.mean(sizes) < 1


@pytest.mark.soak
def test_a_mixture_trains_from_a_random_start_and_is_judged_by_azimuth(tmp_path: Path) -> None:
    words = "--stage multiview --model tiny --people 2 --first 1 --held 2 --moments 2 --cameras 4 --processes 2"
    words += f" --seconds 300 --mix 0.5 --mixed-people 2 --out {tmp_path / 'out'} --work {tmp_path / 'work'}"
    settings = ["steps=4", "log_every=1", "adversary.weight=0.05", "adversary.begin=0.1", "model.image_size=64"]
    done = CliRunner().invoke(studio, [*words.split(), *(w for s in settings for w in ("--set", s))])
    assert done.exit_code == 0, done.output
    report = json.loads((tmp_path / "out" / "metrics.json").read_text())
    known = ["pose" in line for line in report["curve"] if line["step"]]
    assert known == [True, False, True, False], "every other step is on portraits"
    assert all("critic" in line for line in report["curve"][2:]) and report["mixed_people"] >= 1
    assert {row["views"] for row in report["after"]["around_by_azimuth"]} == {1, 4}
    assert len({row["sector"] for row in report["after"]["around_by_azimuth"]}) >= 4
