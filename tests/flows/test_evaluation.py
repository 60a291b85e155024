"""``ffavatar evaluate --corpus``: numbers of held-out people of a published corpus."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from ffavatar_model.head import load_head
from ffavatar_model.model import FFAvatar
from ffavatar_model.presets import by_name
from ffavatar_model.weights import save_weights
from flows.cli import main
from flows.heads import head_file
from infra.storage import open_store
from mfhq.schema import CAMERAS, CAPTURES, IDENTITIES, VIEWS
from pipelines.faces.cache import cache_dir
from pipelines.faces.pictures import encode_png
from pipelines.publishing.commit import publish_tables
from pipelines.studio.portraits import render_around
from pipelines.studio.studio_head import load_studio_head

SIZE, MOMENTS, CAMERAS_EACH = 128, 2, 6


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Three studio people seen from all round, two of them held out."""
    store = open_store(tmp_path_factory.mktemp("corpus"))
    head, blob = load_studio_head(cache_dir()), bytearray()
    rows: dict[str, list[dict[str, object]]] = {"cameras": [], "captures": [], "views": [], "identities": []}

    def pack(picture: np.ndarray) -> dict[str, object]:
        data = encode_png(picture)
        blob.extend(data)
        return {"uri": "pictures.bin", "offset": len(blob) - len(data), "length": len(data)}

    for person, split in (("person-0", "train"), ("person-1", "val"), ("person-2", "val")):
        seen = render_around(head, person, MOMENTS, CAMERAS_EACH, SIZE)
        rows["identities"].append({"identity_id": person, "n_tracks": 0, "n_videos": 0, "n_faces": 0, "split": split})
        rows["captures"].append({"capture_id": person, "identity_id": person, "dataset": "studio",
                                 "n_cameras": len(seen.rgb), "n_frames": MOMENTS})  # fmt: skip
        for i in range(len(seen.rgb)):
            # a camera a picture, whose world is the head's frame
            ids = {"capture_id": person, "camera_id": str(i), "K": seen.K[i].ravel().tolist()}
            rows["cameras"].append({**ids, "distortion": [], "width": SIZE, "height": SIZE,
                                    "world_to_camera": seen.head_to_camera[i].ravel().tolist()})  # fmt: skip
            rows["views"].append({
                **ids, "identity_id": person, "view_id": f"{person}-{i}", "frame_index": int(seen.moment[i]),
                "image": pack(seen.rgb[i]), "matte": pack(seen.matte[i]), "split": split, "status": "ok", "reason": "",
                "head_to_world": np.eye(3, 4).ravel().tolist(),
            })  # fmt: skip
    store.write("pictures.bin", bytes(blob))
    schemas = {"cameras": CAMERAS, "captures": CAPTURES, "views": VIEWS, "identities": IDENTITIES}
    publish_tables(store, {name: pa.Table.from_pylist(rows[name], schema=schema) for name, schema in schemas.items()})
    return store.uri


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("checkpoint") / "model.safetensors"
    torch.manual_seed(0)
    save_weights(path, FFAvatar(by_name("tiny"), load_head(head_file(None))), stage="multiview", step=7)
    return path


def test_numbers_of_held_out_people_with_intervals_and_protocol(corpus, checkpoint, tmp_path, capsys) -> None:
    main(["evaluate", str(checkpoint), "--corpus", corpus, "-o", str(tmp_path / "out")])
    shown = capsys.readouterr().out
    assert "2 people held out" in shown and "nearest" in shown
    found = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert found["people"] == 2 and found["pictures"] == 2 * CAMERAS_EACH and found["step"] == 7
    assert "matte" in found["protocol"]["mask"] and len(found["digest"]) > 10
    ours = {row["views"]: row for row in found["self"] if row["method"] == "ours"}
    assert set(ours) == {1, 2} or set(ours) == {1, 2, 4}
    for metric in ("psnr", "ssim", "csim", "aed", "apd"):
        assert np.isfinite(ours[1][metric]["value"]) and ours[1][metric]["n"] <= 2, metric
    assert ours[1]["psnr"]["low"] <= ours[1]["psnr"]["value"] <= ours[1]["psnr"]["high"]
    assert {row["method"] for row in found["cross"]} == {"cross"}
    assert "lpips" not in ours[1]


def test_lpips_is_measured_where_a_network_is_given(corpus, checkpoint, tmp_path) -> None:
    class Distance(torch.nn.Module):
        def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
            return (a - b).abs().mean((1, 2, 3))[:, None, None, None]

    network = torch.jit.script(Distance())
    network.save(str(tmp_path / "lpips.pt"))
    words = ["evaluate", str(checkpoint), "--corpus", corpus, "--people", "1", "-o", str(tmp_path / "out")]
    main([*words, "--lpips", str(tmp_path / "lpips.pt")])
    found = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert 0 < found["self"][0]["lpips"]["value"] < 2 and found["cross"] == []
    (tmp_path / "broken.pt").write_bytes(b"no network")
    with pytest.raises(SystemExit) as ended:
        main([*words, "--lpips", str(tmp_path / "broken.pt")])
    assert ended.value.code == 2
