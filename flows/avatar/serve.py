"""Reconstruction for a served model: bytes of photos in, bytes of an avatar file out."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np

from flows.avatar.reconstruct import reconstruct_photos

SERVED = f"{__name__}:reconstruct_bytes"
"""Name of the function that a model in MLflow calls (``infra.tracking_model``)."""


def reconstruct_bytes(photos: Sequence[bytes], checkpoint: Path) -> bytes:
    """Return the avatar file of one person.

    Args:
        photos: Image files, each of which shows the person alone.
        checkpoint: The model's file.

    Raises:
        CallError: A photo cannot be used.
    """
    with tempfile.TemporaryDirectory(prefix="ffavatar-serve-") as folder:
        paths = [Path(folder) / f"photo {number}" for number in range(1, len(photos) + 1)]
        for path, photo in zip(paths, photos, strict=True):
            path.write_bytes(photo)
        return reconstruct_photos(paths, checkpoint, Path(folder) / "avatar.safetensors").read_bytes()


@cache
def example_photo() -> bytes:
    """Return the photograph of a face that scikit-image brings (a PNG file), the input example of a served model."""
    import skimage.data

    from pipelines.media.image_codec import encode_png

    return encode_png(np.ascontiguousarray(skimage.data.astronaut()[:300, 70:370]))
