"""Avatars and 3D Gaussians as files."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from ffavatar_model.io.avatar import AvatarHeader, load_avatar, save_avatar
from ffavatar_model.io.ply import PROPERTIES, read_ply, write_ply
from ffavatar_model.model import FFAvatar
from ffavatar_model.networks.gaussians import CanonicalAvatar

HEADER = AvatarHeader(
    head="egg", head_digest="ab" * 16, subdivisions=0, sources=("cd" * 32,), licence="CC0-1.0", consent="yes"
)


@pytest.fixture
def avatar(model: FFAvatar) -> CanonicalAvatar:
    with torch.no_grad():
        return model.reconstruct(torch.rand(1, 2, 3, 32, 32))


def test_avatar_survives_its_file(avatar: CanonicalAvatar, tmp_path: Path):
    save_avatar(tmp_path / "a.avatar", avatar, HEADER)
    back, header = load_avatar(tmp_path / "a.avatar")
    assert header == HEADER
    assert avatar.shape is back.shape is None
    for a, b in zip(avatar.tensors().values(), back.tensors().values(), strict=True):
        assert torch.equal(a, b)
    with pytest.raises(ValueError, match="no file format"):
        save_avatar(tmp_path / "b.avatar", avatar._replace(shape=torch.zeros(1, 2)), HEADER)
    assert [p.name for p in tmp_path.iterdir()] == ["a.avatar"]


def write(path: Path, avatar: CanonicalAvatar, header: object = None, **changes: torch.Tensor) -> Path:
    """An avatar file made by someone who means harm."""
    tensors = {name: value[0].clone().contiguous() for name, value in avatar.tensors().items()} | changes
    fields = {"format": 1, "head": "egg", "head_digest": "ab", "subdivisions": 0}
    save_file(tensors, path, metadata={"ffavatar_avatar": json.dumps(fields if header is None else header)})
    return path


def nested(path: Path, avatar: CanonicalAvatar) -> Path:
    """A header of lists in lists, deeper than a JSON reader goes."""
    tensors = {name: value[0].clone().contiguous() for name, value in avatar.tensors().items()}
    save_file(tensors, path, metadata={"ffavatar_avatar": "[" * 100_000 + "]" * 100_000})
    return path


class Trap:
    """An object whose pickle runs code when it is opened."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (Path("/tmp/ffavatar-trap"),)


def test_hostile_files_are_refused_in_one_line_and_run_nothing(avatar: CanonicalAvatar, tmp_path: Path):
    trap = tmp_path / "sprung"
    pickled = tmp_path / "pickle.avatar"
    Trap.__reduce__ = lambda self: (Path.touch, (trap,))  # type: ignore[method-assign]
    pickled.write_bytes(pickle.dumps(Trap()))
    whole = write(tmp_path / "whole.avatar", avatar).read_bytes()
    (tmp_path / "cut.avatar").write_bytes(whole[:-100])
    (tmp_path / "huge.avatar").write_bytes((2**62).to_bytes(8, "little") + b"{}")
    n = avatar.offsets.shape[1]
    bad = {
        "not finite": write(tmp_path / "nan.avatar", avatar, colours=torch.full((n, 3), float("nan"))),
        "outside": write(tmp_path / "range.avatar", avatar, scales=torch.full((n, 3), 50.0)),
        "expected float32": write(tmp_path / "shape.avatar", avatar, offsets=torch.zeros(n + 1, 3)),
        "kind": write(tmp_path / "kind.avatar", avatar, opacities=torch.zeros(n, dtype=torch.int64)),
        "more": write(tmp_path / "more.avatar", avatar, extra=torch.zeros(1)),
        "format": write(tmp_path / "format.avatar", avatar, header={"format": 99}),
        "list": write(tmp_path / "list.avatar", avatar, header=[1, 2]),
        "types": write(
            tmp_path / "types.avatar",
            avatar,
            header={"format": 1, "head": {"a": 1}, "head_digest": "ab", "subdivisions": 0},
        ),
        "sub": write(
            tmp_path / "sub.avatar",
            avatar,
            header={"format": 1, "head": "egg", "head_digest": "ab", "subdivisions": 99},
        ),
        "quaternions": write(tmp_path / "zero.avatar", avatar, rotations=torch.zeros(n, 4)),
        "path": write(
            tmp_path / "path.avatar",
            avatar,
            header={"format": 1, "head": "../../etc/passwd", "head_digest": "ab", "subdivisions": 0},
        ),
        "climbing": write(
            tmp_path / "climb.avatar",
            avatar,
            header={"format": 1, "head": "egg", "head_digest": "ab", "subdivisions": 0, "checkpoint": "../../x"},
        ),
        "deep": nested(tmp_path / "deep.avatar", avatar),
        "pickle": pickled,
        "cut": tmp_path / "cut.avatar",
        "huge": tmp_path / "huge.avatar",
    }
    for name, path in bad.items():
        with pytest.raises(ValueError) as error:
            load_avatar(path)
        assert path.name in str(error.value) and "\n" not in str(error.value), name
    assert not trap.exists()
    with pytest.raises(FileNotFoundError, match=r"none\.avatar: no such avatar"):
        load_avatar(tmp_path / "none.avatar")


def test_ply_has_the_layout_viewers_read_and_comes_back(avatar: CanonicalAvatar, tmp_path: Path):
    path = tmp_path / "a.ply"
    a = CanonicalAvatar(*(value[0] for value in avatar.tensors().values()))
    write_ply(path, a.offsets, 3 * a.rotations, a.scales, a.opacities, a.colours)
    header, _, body = path.read_bytes().partition(b"end_header\n")
    n = len(a.offsets)
    assert header.decode().splitlines() == [
        "ply",
        "format binary_little_endian 1.0",
        f"element vertex {n}",
        *(f"property float {p}" for p in PROPERTIES),
    ]
    assert len(body) == n * 62 * 4
    # Read by hand, in the formulas of the reference code: SH_C0 · dc + 0.5, exp, sigmoid.
    table = np.frombuffer(body, "<f4").reshape(n, 62)
    np.testing.assert_allclose(0.28209479177387814 * table[:, 6:9] + 0.5, a.colours, atol=1e-5)
    np.testing.assert_allclose(1 / (1 + np.exp(-table[:, 54])), a.opacities, atol=1e-5)
    np.testing.assert_allclose(np.exp(table[:, 55:58]), a.scales, rtol=1e-4)
    np.testing.assert_allclose(table[:, 58:], a.rotations, atol=1e-5)
    assert (table[:, 3:6] == 0).all() and (table[:, 9:54] == 0).all()
    for mine, back in zip((a.offsets, a.rotations, a.scales, a.opacities, a.colours), read_ply(path), strict=True):
        torch.testing.assert_close(mine, back, atol=1e-5, rtol=1e-5)
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(ValueError, match=r"a\.ply.*cut off"):
        read_ply(path)
