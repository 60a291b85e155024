"""``ffavatar evaluate --corpus``: numbers of held-out people of a published corpus."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from ffavatar_model.head import load_head
from ffavatar_model.io.weights import save_weights
from ffavatar_model.model import FFAvatar
from ffavatar_model.networks.lpips import LPIPS, parameters_by_file_name
from ffavatar_model.presets import find_preset
from flows.avatar.heads import prepare_head_file
from flows.cli import main


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("checkpoint") / "model.safetensors"
    torch.manual_seed(0)
    save_weights(path, FFAvatar(find_preset("tiny"), load_head(prepare_head_file(None))), stage="multiview", step=7)
    return path


def test_numbers_of_held_out_people_with_intervals_and_protocol(studio_corpus, checkpoint, tmp_path, capsys) -> None:
    main(["evaluate", str(checkpoint), "--corpus", studio_corpus, "-o", str(tmp_path / "out")])
    shown = capsys.readouterr().out
    assert "2 people held out" in shown and "nearest" in shown
    found = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert found["people"] == 2 and found["pictures"] == 2 * 6 and found["step"] == 7
    assert "matte" in found["protocol"]["mask"] and len(found["digest"]) > 10
    ours = {row["views"]: row for row in found["self"] if row["method"] == "ours"}
    assert set(ours) == {1, 2}
    for metric in ("psnr", "ssim", "csim", "aed", "apd"):
        assert np.isfinite(ours[1][metric]["value"]) and ours[1][metric]["n"] <= 2, metric
    assert ours[1]["psnr"]["low"] <= ours[1]["psnr"]["value"] <= ours[1]["psnr"]["high"]
    assert {row["method"] for row in found["cross"]} == {"cross"}
    assert "lpips" not in ours[1]


def test_lpips_is_measured_where_its_weights_are_given(studio_corpus, checkpoint, tmp_path) -> None:
    torch.save({name: p.clone() for name, p in parameters_by_file_name(LPIPS("alex")).items()}, tmp_path / "lpips.pt")
    words = ["evaluate", str(checkpoint), "--corpus", studio_corpus, "--people", "1", "-o", str(tmp_path / "out")]
    main([*words, "--lpips", str(tmp_path / "lpips.pt")])
    found = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert 0 < found["self"][0]["lpips"]["value"] < 2 and found["cross"] == []
    (tmp_path / "broken.pt").write_bytes(b"no network")
    with pytest.raises(SystemExit) as ended:
        main([*words, "--lpips", str(tmp_path / "broken.pt")])
    assert ended.value.code == 2
