from __future__ import annotations

import numpy as np
import pytest

from pipelines.media.image_codec import decode_picture, encode_png, encode_webp


@pytest.fixture
def picture() -> np.ndarray:
    y, x = np.mgrid[:40, :60]
    return np.dstack([x * 4, y * 6, np.full(x.shape, 20)]).astype(np.uint8)


def test_png_and_lossless_webp_are_exact(picture: np.ndarray) -> None:
    np.testing.assert_array_equal(decode_picture(encode_png(picture)), picture)
    np.testing.assert_array_equal(decode_picture(encode_webp(picture, 101)), picture)
    np.testing.assert_array_equal(decode_picture(encode_png(picture[:, :, 0]), grey=True), picture[:, :, 0])


def test_webp_keeps_red_red(picture: np.ndarray) -> None:
    data = encode_webp(picture, 95)
    assert data[:4] == b"RIFF" and data[8:12] == b"WEBP"
    assert np.abs(decode_picture(data).astype(int) - picture).mean() < 3
    red = np.zeros((16, 16, 3), np.uint8)
    red[..., 0] = 200
    assert decode_picture(encode_webp(red)).reshape(-1, 3).mean(axis=0).round() == pytest.approx([200, 0, 0], abs=6)


def test_the_same_picture_gives_the_same_bytes(picture: np.ndarray) -> None:
    assert encode_webp(picture) == encode_webp(picture.copy()) and encode_png(picture) == encode_png(picture.copy())


@pytest.mark.parametrize("data", [b"", b"no picture at all"])
def test_no_picture_is_named(data: bytes) -> None:
    with pytest.raises(ValueError, match=f"{len(data)} bytes beginning with .* are no picture"):
        decode_picture(data)


@pytest.mark.parametrize("bad", [np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros(4, np.uint8)])
def test_other_arrays_are_named(bad: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"\(H, W\) or \(H, W, 3\) of uint8"):
        encode_png(bad)
