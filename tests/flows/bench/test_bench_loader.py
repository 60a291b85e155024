"""``ffavatar bench loader``: figures that follow from one another, beside a step."""

from __future__ import annotations

import json

import pytest

from flows.cli import main

SMALL = ["--stage", "multiview", "--seconds", "0.5", "--set", "model.image_size=32", "--set", "data.drivers=2"]


def test_rates_from_a_folder_beside_what_a_step_takes(studio_corpus, capsys) -> None:
    main(["bench", "loader", "--corpus", studio_corpus, "--workers", "0", "--consumes", "50", *SMALL])
    (line,) = map(json.loads, capsys.readouterr().out.splitlines())
    assert (line["store"], line["workers"], line["size_px"], line["stage"]) == ("file", 0, 32, "multiview")
    assert line["images"] >= 3 and line["images_per_s"] > 0 and line["cores_busy"] > 0.2
    assert line["of_step"] == pytest.approx(line["images_per_s"] / 50, abs=1e-3)
    assert line["cores_for_twice"] == pytest.approx(100 / line["images_per_core_s"], abs=0.1)
    assert line["images_per_core_s"] == pytest.approx(line["images_per_s"] / line["cores_busy"], rel=0.05)


@pytest.mark.soak
def test_processes_and_a_step_that_is_measured(studio_corpus, capsys) -> None:
    main(["bench", "loader", "--corpus", studio_corpus, "--workers", "0", "--workers", "1", *SMALL])
    step, alone, one = map(json.loads, capsys.readouterr().out.splitlines())
    assert step["what"] == "step" and step["images_per_s"] > 0
    assert 0 < step["develop_ms"] < step["step_ms"]
    assert (alone["workers"], one["workers"]) == (0, 1) and min(alone["images"], one["images"]) >= 3
    assert one["of_step"] == pytest.approx(one["images_per_s"] / step["images_per_s"], abs=1e-3)
