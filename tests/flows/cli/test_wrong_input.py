"""Real wrong input: one line that names it, an exit status, and nothing half-written."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from importlib import resources
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import skimage.data
import torch
from safetensors.torch import load_file

from ffavatar_model.head import load_head
from ffavatar_model.io.avatar import load_avatar
from ffavatar_model.io.weights import save_weights
from ffavatar_model.model import FFAvatar
from ffavatar_model.presets import find_preset
from flows.avatar.heads import prepare_head_file
from flows.avatar.reconstruct import reconstruct_photos
from flows.cli import main
from infra.storage import open_store
from mfhq.catalog import Catalog
from mfhq.ids import digest
from mfhq.schema import CAMERAS, CAPTURES, VIDEOS, VIEWS
from pipelines.media.image_codec import encode_png
from pipelines.media.video_writer import write_video
from pipelines.publishing.publish_tables import publish_tables
from tests.flows.cli.test_cli import without_the_four

WITHOUT_RAY = """
import contextlib, io, json, sys
import ray
def refuse(*words, **named):
    raise AssertionError("Ray was started")
ray.init = refuse
from flows.cli import main
ended = []
for words in json.load(sys.stdin):
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        try:
            main(words)
        except SystemExit as end:
            ended.append((end.code, said.getvalue()))
print(json.dumps(ended))
"""
"""Commands, one after the other, in a process in which Ray may be imported and may not be started."""

UNTRAINABLE = {
    "pretrain-nobody": (("pretrain", "--corpus", "{given}/nobody"), ("nobody", "two faces", "mine more")),
    "multiview-nobody": (
        ("multiview", "--corpus", "{given}/nobody"),
        ("nobody", "calibrated views", "ffavatar studio"),
    ),
    "personalize-nobody": (
        ("personalize", "--corpus", "{given}/nobody", "--identity", "x"),
        ("'x'", "v0001", "it has 0"),
    ),
    "init-of-another-shape": (
        ("multiview", "--corpus", "{given}/captured", "--init", "{given}/other.safetensors"),
        ("other.safetensors", "query_former", "(128", "(64", "start from a checkpoint of this configuration"),
    ),
    "init-an-image": (
        ("multiview", "--corpus", "{given}/captured", "--init", "{given}/grey.png"),
        ("grey.png", "checkpoint"),
    ),
}
"""What is asked of ``ffavatar train``, and what its one line names."""


@pytest.fixture(autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Logs and databases go to a folder of their own, so that ``tmp_path`` holds what a command wrote."""
    monkeypatch.setenv("FFAVATAR_HOME", str(tmp_path_factory.mktemp("home")))


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the commands are given: photos, videos, a checkpoint with random weights, corpora."""
    folder = tmp_path_factory.mktemp("given files")
    (folder / "astronaut.png").write_bytes(encode_png(skimage.data.astronaut()))
    (folder / "grey.png").write_bytes(encode_png(np.full((240, 320, 3), 128, np.uint8)))
    six = resources.files("insightface") / "data" / "images" / "t1.jpg"
    (folder / "six.jpg").write_bytes(six.read_bytes())
    (folder / "text.mp4").write_text("a letter, and not a video\n" * 40)
    shades = [np.full((120, 160, 3), 60 + 10 * i, np.uint8) for i in range(8)]
    write_video(folder / "faceless.mp4", shades, 25)
    torch.manual_seed(0)
    save_weights(folder / "model.safetensors", FFAvatar(find_preset("tiny"), load_head(prepare_head_file(None))))
    disagree(folder / "model.safetensors", folder / "other.safetensors")
    reconstruct_photos([folder / "astronaut.png"], folder / "model.safetensors", folder / "avatar.safetensors")
    row = {"video_id": "0" * 64, "uri": "gone.mp4", "status": "rejected", "reason": "no_face"}
    publish_tables(open_store(folder / "nobody"), {"videos": pa.Table.from_pylist([row], schema=VIDEOS)})
    publish_tables(open_store(folder / "captured"), captured(folder / "captured"))
    return folder


def disagree(path: Path, into: Path) -> None:
    """A copy of a checkpoint whose header says that the query former is half as wide as its tensors are."""
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    notes = json.loads(header["__metadata__"]["ffavatar"])
    notes["model"]["query_former"]["width"] //= 2
    header["__metadata__"]["ffavatar"] = json.dumps(notes)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    into.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + length :])
    assert {name: value.shape for name, value in load_file(into).items()} == {
        name: value.shape for name, value in load_file(path).items()
    }


def captured(root: Path) -> dict[str, pa.Table]:
    """Two people, each in two calibrated images: enough for ``train multiview`` to begin."""
    image = encode_png(np.full((32, 32, 3), 200, np.uint8))
    open_store(root).write("captures/all.blobs", image)
    where = {"uri": "captures/all.blobs", "offset": 0, "length": len(image)}
    K, rest = [40.0, 0, 16, 0, 40, 16, 0, 0, 1], [1.0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0]
    cameras, captures, views = [], [], []
    for person in ("one", "two"):
        known = {"capture_id": person, "identity_id": person}
        captures.append(known | {"dataset": "studio", "n_cameras": 2, "n_frames": 1})
        for camera in ("a", "b"):
            at = {"capture_id": person, "camera_id": camera}
            cameras.append(at | {"K": K, "distortion": [], "world_to_camera": rest, "width": 32, "height": 32})
            views.append(
                known
                | at
                | {
                    "view_id": digest([person, camera]),
                    "frame_index": 0,
                    "image": where,
                    "K": K,
                    "head_to_world": rest,
                    "split": "train",
                    "status": "ok",
                    "reason": "",
                }
            )
    return {
        "cameras": pa.Table.from_pylist(cameras, schema=CAMERAS),
        "captures": pa.Table.from_pylist(captures, schema=CAPTURES),
        "views": pa.Table.from_pylist(views, schema=VIEWS),
    }


CHECKPOINT = ("--checkpoint", "{given}/model.safetensors", "-o", "{out}")


@pytest.mark.parametrize(
    ("words", "named", "way_out"),
    [
        (("reconstruct", "{given}/grey.png", *CHECKPOINT), ("grey.png", "no face", "320 x 240"), "use one that shows"),
        (("reconstruct", "{given}/six.jpg", *CHECKPOINT), ("six.jpg", "6 faces"), "--face 1 to 6"),
        (("reconstruct", "{given}/six.jpg", "--face", "7", *CHECKPOINT), ("six.jpg", "--face 7"), "6 faces"),
        (("reconstruct", "{given}/astronaut.png", "{given}/grey.png", *CHECKPOINT), ("grey.png",), "use one"),
        (("reconstruct", "{given}/text.mp4", *CHECKPOINT), ("text.mp4", "not an image"), "JPEG, PNG or WebP"),
        (
            ("reconstruct", "{given}/astronaut.png", "--checkpoint", "{given}/other.safetensors", "-o", "{out}"),
            ("other.safetensors", "query_former", "(128", "(64"),
            "start from a checkpoint of this configuration",
        ),
        (
            ("animate", "{given}/avatar.safetensors", "--driver", "{given}/text.mp4", "-o", "{out}.mp4"),
            ("text.mp4", "not a video"),
            "name a video",
        ),
        (
            ("animate", "{given}/avatar.safetensors", "--driver", "{given}/faceless.mp4", "-o", "{out}.mp4"),
            ("faceless.mp4", "no face"),
            "name a video",
        ),
        (
            ("animate", "{given}/astronaut.png", "--driver", "{given}/faceless.mp4", "-o", "{out}.mp4"),
            ("astronaut.png",),
            "ffavatar reconstruct",
        ),
        (("sql", "SELEC status FROM videos", "--corpus", "{given}/nobody"), ("SELEC",), "lists the views"),
        (("sql", "SELECT nothing FROM videos", "--corpus", "{given}/nobody"), ("nothing",), "lists the views"),
        (("sql", "SELECT 1", "--corpus", "{given}/nobody", "--snapshot", "v7"), ("v7",), "v0001"),
        (("publish", "--corpus", "{given}/nobody"), ("nobody", "nothing is mined"), "ffavatar mine"),
        (("cluster", "--corpus", "{given}/nowhere"), ("nowhere", "nothing is mined"), "ffavatar mine"),
        (
            ("publish", "--corpus", "{given}/nobody", "--pack", "nosuch"),
            ("'nosuch'", "no such folder"),
            "leave the pack",
        ),
        (("plan", "{given}", "--corpus", "{given}/nobody", "--pack", "nosuch"), ("'nosuch'",), "leave the pack out"),
        (("retry", "--corpus", "{given}/nobody", "--pack", "nosuch"), ("'nosuch'",), "leave the pack out"),
        (("calibrate", "{given}/grey.png"), ("grey.png", "no csv of pairs"), "a folder a person"),
        (("overlap", "nowhere", "--corpus", "{given}/nobody"), ("nowhere", "no such folder"), "a folder of stills"),
        (
            ("publish", "--corpus", "{given}/nobody", "--where", "width > 3)"),
            ("--where", "width > 3)"),
            "the columns are",
        ),
        (("retry", "--corpus", "{given}/nobody", "--where", "nosuch = 1"), ("--where", "nosuch"), "the columns are"),
        (("replay", "x", "--step", "nosuch", "--corpus", "{given}/nobody"), ("'nosuch'",), "probe"),
        (("diff", "v1", "v9", "--corpus", "{given}/nobody"), ("v9",), "v0001"),
        (("recrop", "--corpus", "{given}/nowhere", "--size", "64"), ("nowhere", "no snapshot"), "ffavatar mine"),
        (("convert", "ava256", "{given}", "--corpus", "{out}"), ("no Ava-256 capture",), "name the folder"),
        (("mine", "s3://me:hidden@bucket/x", "--corpus", "{out}"), ("s3://***@bucket/x",), "AWS_ACCESS_KEY_ID"),
        (("mine", "{given}/nowhere", "--corpus", "{out}"), ("nowhere", "no such folder"), "list file"),
    ],
    ids=lambda value: " ".join(Path(word).name for word in value[:2]) if isinstance(value, tuple) else None,
)
def test_wrong_input_is_one_line_and_status_2(
    words: tuple[str, ...],
    named: tuple[str, ...],
    way_out: str,
    given: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = contents(given)
    with pytest.raises(SystemExit) as ended:
        main([word.format(given=given, out=tmp_path / "out") for word in words])
    lines = capsys.readouterr().err.strip().splitlines()
    assert ended.value.code == 2, lines
    assert len(lines) == 1, lines
    assert [word for word in (*named, way_out) if word not in lines[0]] == [], lines
    assert not list(tmp_path.iterdir()) and contents(given) == before, "nothing may be left half-written"


def contents(folder: Path) -> dict[str, int]:
    """Every file below, with its size."""
    return {str(path): path.stat().st_size for path in folder.rglob("*") if path.is_file()}


def test_the_same_photo_with_a_face_that_is_there_gives_an_avatar(given: Path, tmp_path: Path) -> None:
    words = ["reconstruct", given / "six.jpg", "--fast", "--face", 6, "--checkpoint", given / "model.safetensors"]
    main([str(word) for word in (*words, "-o", tmp_path / "avatar.safetensors")])
    avatar, _ = load_avatar(tmp_path / "avatar.safetensors")
    assert bool(torch.isfinite(avatar.colours).all())


def test_reconstruct_needs_none_of_ray_prefect_mlflow_and_duckdb(given: Path, tmp_path: Path) -> None:
    out = tmp_path / "avatar.safetensors"
    done = without_the_four(
        *("reconstruct", given / "astronaut.png", "--fast"),
        *("--checkpoint", given / "model.safetensors", "-o", out),
    )
    assert done.returncode == 0, done.stderr
    made, header = load_avatar(out)
    same, _ = load_avatar(given / "avatar.safetensors")
    torch.testing.assert_close(made.colours, same.colours, atol=1e-3, rtol=0)
    assert len(header.sources) == 1


def test_what_cannot_be_trained_is_found_before_ray_starts(given: Path, tmp_path: Path) -> None:
    before = contents(given)
    asked = [
        ["train", *(word.format(given=given) for word in words), "-o", str(tmp_path / "out")]
        for words, _ in UNTRAINABLE.values()
    ]
    command = [sys.executable, "-c", WITHOUT_RAY]
    done = subprocess.run(command, input=json.dumps(asked), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    ended = json.loads(done.stdout.splitlines()[-1])
    for (name, (_, named)), (status, said) in zip(UNTRAINABLE.items(), ended, strict=True):
        lines = said.strip().splitlines()
        assert status == 2 and len(lines) == 1, (name, lines)
        assert [word for word in named if word not in lines[0]] == [], (name, lines)
    assert not list(tmp_path.iterdir()) and contents(given) == before, "nothing may be left half-written"


@pytest.mark.ray
@pytest.mark.slow
def test_a_folder_of_one_broken_file_gives_a_snapshot_of_nobody(
    tmp_path: Path, ray_session: None, prefect_server: None
) -> None:
    """A rejected file is no failure: status 0, a row with its reason, and no people."""
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "letter.mp4").write_text("a letter, and not a video\n" * 40)
    main(["mine", str(tmp_path / "videos"), "--corpus", str(tmp_path / "corpus")])
    snapshot = Catalog(open_store(tmp_path / "corpus")).open()
    (row,) = snapshot.query("SELECT uri, status, reason, n_frames FROM videos").to_pylist()
    assert row["uri"].endswith("letter.mp4")
    assert (row["status"], row["reason"], row["n_frames"]) == ("rejected", "not_a_video", None)
    for name in ("shots", "tracks", "faces", "embeddings", "identities", "assignments", "identity_faces"):
        assert len(snapshot.query(f"SELECT * FROM {name}", biometric=True)) == 0, name
    (counted,) = snapshot.query("SELECT reason, items FROM funnel WHERE stage = 'videos'").to_pylist()
    assert counted == {"reason": "not_a_video", "items": 1}
