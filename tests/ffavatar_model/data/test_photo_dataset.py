"""A person's own photos as sources and drivers at once."""

from __future__ import annotations

import pytest
import torch

from ffavatar_model.camera import virtual_intrinsics
from ffavatar_model.data.dataset import LoadedImage, PhotoDataset, photo_sampling


def photo(name: str) -> LoadedImage:
    pixels = torch.cat((torch.randint(256, (3, 16, 16)), torch.full((1, 16, 16), 255))).byte()
    return LoadedImage(
        id=name, pixels=pixels, landmarks=None, K=virtual_intrinsics(16), head_to_camera=None, timestep=0
    )


@pytest.mark.parametrize(("n", "drivers"), [(1, 1), (3, 3), (6, 4)])
def test_every_photo_is_a_source_and_in_time_a_driver(n: int, drivers: int):
    photos = [photo(f"p{i}") for i in range(n)]
    data = PhotoDataset(photos, photo_sampling(n, 4))
    drawn = set()
    for cursor in range(12):
        batch = data.batch([cursor])
        _, *images = batch.ids[0]
        assert images[:n] == [p.id for p in photos], "all sources, in their order"
        assert len(set(images[n:])) == batch.drivers.shape[1] == drivers, "no driver twice"
        assert not batch.known and not batch.padded
        assert torch.equal(batch.sources[0, 0], photos[0].pixels[:3] / 255)
        drawn |= set(images[n:])
    assert drawn == {p.id for p in photos}


def test_no_photo_is_said():
    with pytest.raises(ValueError, match="at least one"):
        PhotoDataset([], photo_sampling(1, 4))
