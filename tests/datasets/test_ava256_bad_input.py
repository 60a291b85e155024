"""Zips and values that are cut off, hostile or of another kind: a reason each, and never a byte outside."""

from __future__ import annotations

import io
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest
from PIL import Image

from ava256 import archive as archives
from ava256 import values
from ava256.archive import Archive, ArchiveError
from ava256.values import ValueDamaged


def zipped(*members, method=zipfile.ZIP_STORED, attributes=0):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, data in members:
            info = zipfile.ZipInfo(name)
            info.compress_type, info.external_attr = method, attributes
            archive.writestr(info, data)
    return out.getvalue()


def reason(data, member="a/000001.avif", limit=1000):
    with pytest.raises(ArchiveError) as caught, Archive("cam1.zip", io.BytesIO(data)) as archive:
        archive.read(member, limit)
    assert "cam1.zip" in str(caught.value) and "\n" not in str(caught.value)
    return caught.value.reason


GOOD = zipped(("a/000001.avif", b"picture"), ("a/000002.avif", b"another"))


def test_a_member_is_read_by_its_name_alone():
    with Archive("x", io.BytesIO(GOOD)) as archive:
        assert archive.read("a/000001.avif", 7) == b"picture"
        assert archive.read("a/000003.avif", 7) is None
        assert archive.names() == ["a/000001.avif", "a/000002.avif"]


@pytest.mark.parametrize("cut", [0, 10, len(GOOD) // 2, len(GOOD) - 5])
def test_a_zip_that_is_cut_off(cut):
    assert reason(GOOD[:cut]) == "archive_damaged"


@pytest.mark.parametrize(
    "name", ["../evil", "a/../../evil", "/etc/evil", "a\\..\\..\\evil", "C:/evil", "..\\evil", "a/.."]
)
def test_a_path_that_climbs_out_makes_the_zip_unsafe(name):
    assert reason(zipped(("a/000001.avif", b"fine"), (name, b"evil"))) == "unsafe_member"


def test_a_link_makes_the_zip_unsafe():
    assert reason(zipped(("a/000001.avif", b"/etc/passwd"), attributes=0o120777 << 16)) == "unsafe_member"


def test_a_bomb_by_its_declared_size():
    assert reason(zipped(("a/000001.avif", b"\0" * 5_000_000), method=zipfile.ZIP_DEFLATED)) == "too_large"


def test_a_bomb_that_declares_less_than_it_unpacks_to():
    data = bytearray(zipped(("a/000001.avif", b"\0" * 5_000_000), method=zipfile.ZIP_DEFLATED))
    for signature, at in ((b"PK\3\4", 22), (b"PK\1\2", 24)):
        where = data.find(signature) + at
        assert struct.unpack_from("<I", data, where) == (5_000_000,)
        struct.pack_into("<I", data, where, 100)
    assert reason(bytes(data)) in ("picture_damaged", "too_large")


def test_a_bomb_is_not_unpacked():
    """The limit holds for the bytes that are made, and not only for those that are handed on."""
    bomb = zipped(("a/000001.avif", b"\0" * 100_000_000), method=zipfile.ZIP_DEFLATED)
    tracemalloc.start()
    try:
        assert reason(bomb) == "too_large"
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_damaged_byte_anywhere_has_a_reason_by_every_method_of_compression(method):
    picture = bytes(range(64)) * 3
    whole = zipped(("a/000001.avif", picture), method=method)
    reasons = set()
    for place in range(len(whole)):
        for bit in (0x01, 0x80):
            data = bytearray(whole)
            data[place] ^= bit
            try:
                with Archive("cam1.zip", io.BytesIO(bytes(data))) as archive:
                    assert archive.read("a/000001.avif", 1000) in (picture, None)
            except ArchiveError as error:
                reasons.add(error.reason)
    assert reasons >= {"archive_damaged", "picture_damaged"}


def test_a_flipped_byte_is_seen():
    data = bytearray(GOOD)
    data[data.find(b"picture")] ^= 1
    assert reason(bytes(data)) == "picture_damaged"


def test_a_zip_of_too_many_members(monkeypatch):
    monkeypatch.setattr(archives, "MAX_MEMBERS", 1)
    assert reason(GOOD) == "too_large"


def test_an_encrypted_member():
    data = bytearray(GOOD)
    for signature, at in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        where = data.find(signature) + at
        struct.pack_into("<H", data, where, struct.unpack_from("<H", data, where)[0] | 1)
    assert reason(bytes(data)) == "picture_damaged"


def avif(width=32, height=48):
    return values.encode_avif(np.random.default_rng(0).integers(0, 255, (height, width, 3), np.uint8))


def code(read, data):
    with pytest.raises(ValueDamaged) as caught:
        read(data)
    assert "\n" not in str(caught.value)
    return caught.value.reason


def test_images_that_do_not_decode():
    good = avif()
    assert values.decode_avif(good).shape == (48, 32, 3)
    for bad in (b"", b"nonsense" * 20, good[: len(good) // 2], good[:60]):
        assert code(values.decode_avif, bad) == "picture_damaged"
    jpeg = io.BytesIO()
    Image.new("RGB", (8, 8)).save(jpeg, "JPEG")
    assert code(values.decode_avif, jpeg.getvalue()) == "picture_damaged", "another format than the data set's"


def test_a_image_that_declares_too_many_pixels():
    bomb = io.BytesIO()
    Image.new("L", (9000, 9000)).save(bomb, "PNG")
    assert code(values.decode_classes, bomb.getvalue()) == "too_large"


@pytest.mark.parametrize(
    "pose",
    [
        np.eye(3, 4)[:2],
        np.diag([2.0, 1, 1, 0])[:3],
        np.concatenate([np.diag([-1.0, 1, 1]), np.zeros((3, 1))], 1),
        np.concatenate([np.eye(3), [[1e6], [0], [0]]], 1),
        np.full((3, 4), np.nan),
        np.ones((3, 4)),
    ],
)
def test_a_pose_that_is_none(pose):
    out = io.BytesIO()
    np.savetxt(out, pose)
    assert code(values.read_pose, out.getvalue()) == "pose_invalid"
    assert code(values.read_pose, b"no numbers") == "pose_invalid"


def test_numbers_that_are_none():
    pickled = io.BytesIO()
    np.save(pickled, np.array([{}], object), allow_pickle=True)
    for read in (values.read_keypoints, values.read_vertices, values.read_mean_vertices):
        for bad in (b"", b"nonsense", b"ply\nformat ascii 1.0\nend_header\n", pickled.getvalue()):
            assert code(read, bad) == "value_damaged"
