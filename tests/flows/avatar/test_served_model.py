"""A trained model in MLflow: loaded by its alias, it makes the avatar that ``reconstruct`` makes of the same photo."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ffavatar_model.io.avatar import load_avatar
from flows.avatar.reconstruct import reconstruct_photos
from flows.avatar.serve import SERVED, example_photo
from infra.settings import load_settings
from infra.tracking import tracked_run
from infra.tracking_model import SIGNATURE, save_model


def test_mlflow_loads_the_champion_and_gives_the_avatar_of_its_example(
    performer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow
    import torch

    home = load_settings(tmp_path / "home")
    save_model(tmp_path / "model", performer.checkpoint, SERVED, {"person": ["a"], "photo": [example_photo()]})
    with tracked_run(home, "pretrain", "served", {}) as run:
        run.register_model("ffavatar-served", tmp_path / "model", 20.0)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", home.tracking_uri)
    mlflow.set_tracking_uri(home.tracking_uri)
    try:
        loaded = mlflow.pyfunc.load_model("models:/ffavatar-served@champion")
        example = loaded.input_example
        result = loaded.predict(example)
    finally:
        mlflow.set_tracking_uri(None)
    assert loaded.metadata.signature == SIGNATURE
    assert result["person"].to_list() == ["a"]
    (tmp_path / "served.safetensors").write_bytes(result["avatar"][0])
    (tmp_path / "photo.png").write_bytes(example_photo())
    direct = reconstruct_photos([tmp_path / "photo.png"], performer.checkpoint, tmp_path / "direct.safetensors")
    (served, *_), (made, *_) = (load_avatar(path) for path in (tmp_path / "served.safetensors", direct))
    assert torch.equal(served.offsets, made.offsets) and torch.equal(served.colours, made.colours)
