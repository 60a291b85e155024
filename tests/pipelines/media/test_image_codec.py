from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import skimage.data
from PIL import ExifTags

from pipelines.media.image_codec import (
    ImageFileError,
    decode_image,
    encode_png,
    encode_webp,
    read_photograph,
    read_with_alpha,
)


@pytest.fixture
def image() -> np.ndarray:
    y, x = np.mgrid[:40, :60]
    return np.dstack([x * 4, y * 6, np.full(x.shape, 20)]).astype(np.uint8)


def test_png_and_lossless_webp_are_exact(image: np.ndarray) -> None:
    np.testing.assert_array_equal(decode_image(encode_png(image)), image)
    np.testing.assert_array_equal(decode_image(encode_webp(image, 101)), image)
    np.testing.assert_array_equal(decode_image(encode_png(image[:, :, 0]), grey=True), image[:, :, 0])


def test_webp_keeps_red_red(image: np.ndarray) -> None:
    data = encode_webp(image, 95)
    assert data[:4] == b"RIFF" and data[8:12] == b"WEBP"
    assert np.abs(decode_image(data).astype(int) - image).mean() < 3
    red = np.zeros((16, 16, 3), np.uint8)
    red[..., 0] = 200
    assert decode_image(encode_webp(red)).reshape(-1, 3).mean(axis=0).round() == pytest.approx([200, 0, 0], abs=6)


def test_the_same_image_gives_the_same_bytes(image: np.ndarray) -> None:
    assert encode_webp(image) == encode_webp(image.copy()) and encode_png(image) == encode_png(image.copy())


@pytest.mark.parametrize("data", [b"", b"not an image at all"])
def test_bytes_that_are_no_image_are_named(data: bytes) -> None:
    with pytest.raises(ValueError, match=f"an image of {len(data)} bytes does not decode: it begins with "):
        decode_image(data)


@pytest.mark.parametrize("bad", [np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros(4, np.uint8)])
def test_other_arrays_are_named(bad: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"\(H, W\) or \(H, W, 3\) of uint8"):
        encode_png(bad)


def test_heic_opens_and_the_rotation_of_avif_is_applied(tmp_path: Path) -> None:
    """AVIF keeps its rotation in a box of the container (irot) instead of EXIF."""
    original = skimage.data.astronaut()[0:256, 96:352].astype(int)
    heic = read_photograph(Path(__file__).parents[2] / "golden" / "astronaut.heic")
    assert np.abs(heic - original).mean() < 4
    exif = PIL.Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    turned = PIL.Image.fromarray(np.rot90(original).astype(np.uint8))
    turned.save(tmp_path / "a.avif", exif=exif)
    assert np.abs(read_photograph(tmp_path / "a.avif") - original).mean() < 4


def test_alpha_0_is_white_and_known(image: np.ndarray, tmp_path: Path) -> None:
    alpha = np.full(image.shape[:2], 255, np.uint8)
    alpha[0] = 0
    PIL.Image.fromarray(np.dstack([image, alpha])).save(tmp_path / "photo.png")
    rgb, known = read_with_alpha(tmp_path / "photo.png")
    assert known is not None and (known == alpha).all() and (rgb[0] == 255).all() and (rgb[1:] == image[1:]).all()


@pytest.mark.parametrize(("orientation", "turns"), [(1, 0), (3, 2), (6, 1), (8, 3)])
def test_a_photograph_is_read_upright(image: np.ndarray, tmp_path: Path, orientation: int, turns: int) -> None:
    exif = PIL.Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    path = tmp_path / "photo.png"
    PIL.Image.fromarray(np.rot90(image, turns)).save(path, exif=exif)
    upright = read_photograph(path)
    np.testing.assert_array_equal(upright, image)
    assert upright.flags.writeable


def test_photographs_of_other_modes_become_rgb(image: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    alpha = np.full(image.shape[:2], 7, np.uint8)
    PIL.Image.fromarray(np.dstack([image, alpha])).save(path)
    np.testing.assert_array_equal(read_photograph(path), image)
    PIL.Image.fromarray(image[..., 0].astype(np.uint16) << 8).save(path)
    np.testing.assert_array_equal(read_photograph(path), image[..., [0, 0, 0]])


def test_files_that_are_no_photographs_are_named_in_one_line(image: np.ndarray, tmp_path: Path) -> None:
    cut, text = tmp_path / "cut.png", tmp_path / "text.jpg"
    data = encode_png(image)
    cut.write_bytes(data[: len(data) // 2])
    text.write_text("not an image")
    for path, message in {
        tmp_path / "none.jpg": "cannot be read (no such file or directory); name an image file",
        tmp_path: "cannot be read (is a directory); name an image file",
        cut: "not an image that can be read; use JPEG, PNG or WebP",
        text: "not an image that can be read; use JPEG, PNG or WebP",
    }.items():
        with pytest.raises(ImageFileError) as error:
            read_photograph(path)
        assert str(error.value) == f"{path}: {message}"


def test_only_photographs_of_a_bounded_size_are_read(tmp_path):
    image = np.zeros((8, 8, 3), np.uint8)
    for kind in ("EPS", "ICO", "PPM", "TGA"):
        PIL.Image.fromarray(image).save(tmp_path / f"{kind}.png", kind)
        with pytest.raises(ImageFileError, match="not an image that can be read"):
            read_photograph(tmp_path / f"{kind}.png")
    for kind in ("JPEG", "PNG", "WEBP", "AVIF", "TIFF", "BMP", "GIF"):  # nothing here writes HEIF
        PIL.Image.fromarray(image).save(tmp_path / "any.name", kind)
        assert read_photograph(tmp_path / "any.name").shape == (8, 8, 3)
    PIL.Image.new("1", (16385, 8192)).save(tmp_path / "large.png")
    with pytest.raises(ImageFileError, match=r"16385 x 8192 pixels; at most 134217728 are read"):
        read_photograph(tmp_path / "large.png")


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(ImageFileError, match="is a pipe"):
        read_photograph(tmp_path / "pipe.jpg")
